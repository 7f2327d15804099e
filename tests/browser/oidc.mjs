// Signs in at npm's oidc-provider with Chromium.
//
//   node tests/browser/oidc.mjs LOCATION CALLBACK LOGIN
//
// Prints the URL below CALLBACK to which the browser is sent. Exit 0, or 70 with what the page says instead.

import { parse, withPage } from './browser.mjs';

const { _: [location, callback, login] } = parse('oidc.mjs LOCATION CALLBACK LOGIN', 3, [], []);
try {
  await withPage({}, async (page) => {
    let end;
    await page.route((url) => url.href.startsWith(callback), (route) => {
      end = route.request().url();
      return route.fulfill({ status: 200, contentType: 'text/plain', body: 'back' });
    });
    await page.goto(location, { timeout: 20_000 });
    await page.fill('input[name=login]', login);
    await page.fill('input[name=password]', 'any');
    await page.click('button[type=submit]');
    await page.waitForSelector('input[name=prompt][value=consent]', { state: 'attached', timeout: 20_000 });
    await page.click('button[type=submit]');
    await page.waitForURL((url) => url.href.startsWith(callback), { timeout: 20_000 });
    console.log(end);
  });
} catch (error) {
  console.error(`oidc: ${error.message}`);
  process.exitCode = 70;
}
