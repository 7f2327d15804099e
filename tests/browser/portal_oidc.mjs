// Opens a portal link with Chromium, signs in at npm's oidc-provider or at Keycloak, and presses the button of the file.
//
//   node tests/browser/portal_oidc.mjs LINK LOGIN [--keycloak PASSWORD]
//
// One JSON object out: the statuses of the navigations, the text of the last page, whether the sign-in's cookie is left, and the name and text of the
// file. Exit 0, or 70 with what went wrong.

import { readFileSync } from 'node:fs';
import { parse, withPage } from './browser.mjs';

const { _: [link, login], keycloak } = parse('portal_oidc.mjs LINK LOGIN [--keycloak PASSWORD]', 2, ['keycloak'], []);
const wait = { timeout: 20_000 };
try {
  await withPage({ acceptDownloads: true }, async (page) => {
    const statuses = [];
    page.on('response', (response) => {
      if (response.request().isNavigationRequest()) statuses.push(response.status());
    });
    await page.goto(link, wait);
    await page.click('a[href^="/sign-in/oidc/"]');
    if (keycloak) {
      await page.fill('#username', login, wait);
      await page.fill('#password', keycloak);
      await page.click('#kc-login');
    } else {
      await page.fill('input[name=login]', login, wait);
      await page.fill('input[name=password]', 'any');
      await page.click('button[type=submit]');
      await page.waitForSelector('input[name=prompt][value=consent]', { state: 'attached', ...wait });
      await page.click('button[type=submit]');
    }
    await page.waitForURL((url) => url.origin === new URL(link).origin, wait);
    await page.waitForLoadState('load');
    const text = await page.evaluate(() => document.body.innerText);
    const cookies = (await page.context().cookies())
      .filter((cookie) => cookie.domain === new URL(link).hostname)
      .map((cookie) => cookie.name);
    let file = null;
    const button = await page.$('form[action^="/d/"] button, form:not([action]) button');
    if (button) {
      const [download] = await Promise.all([page.waitForEvent('download', wait), button.click()]);
      file = { name: download.suggestedFilename(), text: readFileSync(await download.path(), 'utf8') };
    }
    console.log(JSON.stringify({ url: page.url(), statuses, text, cookies, file }));
  });
} catch (error) {
  console.error(`portal_oidc: ${error.message}`);
  process.exitCode = 70;
}
