// Opens the portal in a browser as its readers do.
//
//   node tests/browser/portal.mjs PLAN.json
//
// PLAN.json has {file, sound, list, gallery, signIn, outbox, address, troubles: {name: url}, store}. Prints JSON about what was seen. Exit 0
// unless the browser could not be driven, 70.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { picture, require, withBrowser, withPage } from './browser.mjs';

const plan = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const seen = { complaints: [], violations: [] };

function listen(page, where) {
  page.on('console', (message) => {
    const text = message.text();
    // A page that asks for a sign-in is a 401, and the browser says so.
    if (message.type() === 'error' && !/the server responded with a status of/.test(text)) seen.complaints.push(`${where}: ${text}`);
  });
  page.on('pageerror', (error) => seen.complaints.push(`${where}: ${error.message}`));
}

async function judge(page, where) {
  await page.evaluate(axe);
  const judged = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
  for (const { id, help, nodes } of judged.violations) seen.violations.push(`${where}: ${id}: ${help}: ${nodes[0]?.html.slice(0, 200)}`);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (overflow > 0) seen.complaints.push(`${where}: ${overflow} px wider than the window`);
}

async function downloaded(page, press) {
  const [download] = await Promise.all([page.waitForEvent('download', { timeout: 20_000 }), press()]);
  const path = await download.path();
  return { name: download.suggestedFilename(), bytes: readFileSync(path).length };
}

/** Waits for the mail with a code that is newer than `before` codes. */
async function mailedCode(before) {
  for (let tries = 0; tries < 200; tries += 1) {
    const mails = readdirSync(plan.outbox).filter((name) => name.endsWith('.html'));
    const codes = mails.map((name) => readFileSync(join(plan.outbox, name), 'utf8').match(/^ +(\d{4} \d{4})$/m)).filter(Boolean);
    if (codes.length > before) return codes.at(-1)[1];
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error('no mail with a code');
}

try {
  // The button, under the page's own policy.
  await withPage({ acceptDownloads: true, locale: 'en-GB' }, async (page) => {
    listen(page, 'file');
    await page.goto(plan.file);
    await judge(page, 'file');
    seen.file = await downloaded(page, () => page.click('main form button'));

    // One click in the list of all files, which shows a picture.
    listen(page, 'list');
    await page.goto(plan.list);
    await judge(page, 'list');
    seen.listed = await page.locator('.files li').count();
    await page.locator('.files a.button').first().click();
    await page.waitForURL((url) => url.href.startsWith(plan.store), { timeout: 20_000 });
    seen.shown = true;

    // Pictures of a second view are in the browser's cache, although each view is signed anew.
    const session = await page.context().newCDPSession(page);
    await session.send('Network.enable');
    const pictures = [];
    session.on('Network.responseReceived', ({ type, response }) => {
      if (type === 'Image' && response.url.startsWith(plan.store)) pictures.push(response.fromDiskCache || response.fromPrefetchCache === true);
    });
    const cached = [];
    session.on('Network.requestServedFromCache', ({ requestId }) => cached.push(requestId));
    await page.goto('about:blank');
    await page.goto(plan.list, { waitUntil: 'load' });
    await page.waitForTimeout(500);
    seen.pictures = { asked: pictures.length, fromDisk: pictures.filter(Boolean).length, fromMemory: cached.length };
  });

  // A gallery, wide and narrow: its pictures, one of them large, files that are chosen together, and without scripts.
  for (const [width, locale] of [[1280, 'en-GB'], [390, 'ar']]) {
    await withPage({ acceptDownloads: true, locale, viewport: { width, height: 844 } }, async (page) => {
      const where = `gallery at ${width}`;
      listen(page, where);
      const opened = [];
      page.on('request', (request) => {
        if (new URL(request.url()).pathname.startsWith('/d/')) opened.push(request.resourceType());
      });
      await page.goto(plan.gallery, { waitUntil: 'load' });
      await judge(page, where);
      const photo = page.locator('.photos img').first();
      await photo.evaluate((image) => image.decode());
      await page.locator('.photos td a').first().click();
      const large = page.locator('dialog img');
      await large.evaluate((image) => image.decode());
      (seen.gallery ??= []).push({
        pictures: await page.locator('.photos img').count(),
        large: await large.evaluate((image) => image.naturalWidth),
        opened: opened.length,
      });
      await page.keyboard.press('Escape');
      await page.locator('.files .pick').check();
      seen.gathered = await downloaded(page, () => page.click('.gather'));
      if (plan.pictures) await picture(page, { path: join(plan.pictures, `gallery-${width}.png`) });
    });
  }
  await withPage({ acceptDownloads: true, locale: 'en-GB', javaScriptEnabled: false }, async (page) => {
    await page.goto(plan.gallery);
    const href = await page.locator('.files th a').getAttribute('href');
    seen.withoutScripts = await downloaded(page, () => page.evaluate(() => {}).catch(() => {}).then(() => page.goto(new URL(href, plan.gallery).href).catch(() => {})));
  });

  // Sound whose signature ends while it is played: it is loaded again and goes on.
  await withPage({ locale: 'en-GB' }, async (page) => {
    let dead = false;
    let refused = 0;
    let asked = 0;
    page.on('request', (request) => {
      if (new URL(request.url()).pathname.startsWith('/d/') && request.resourceType() === 'media') {
        asked += 1;
        if (dead && refused > 0) dead = false;
      }
    });
    await page.route(`${plan.store}/**`, async (route) => {
      if (dead) {
        refused += 1;
        await route.fulfill({ status: 403, contentType: 'application/xml', body: '<Error/>' });
      } else await route.continue();
    });
    await page.goto(plan.sound);
    const media = page.locator('audio');
    await media.evaluate((element) => new Promise((done) => (element.readyState ? done() : element.addEventListener('loadedmetadata', done))));
    const first = asked;
    dead = true;
    seen.sound = await media.evaluate(async (element) => {
      const target = element.duration - 5;
      element.currentTime = target;
      for (let tries = 0; tries < 200; tries += 1) {
        await new Promise((done) => setTimeout(done, 50));
        if (!element.error && element.readyState >= 2 && Math.abs(element.currentTime - target) < 1 && tries > 20) break;
      }
      return { error: element.error?.code ?? null, offset: Math.abs(element.currentTime - target), ready: element.readyState };
    });
    seen.sound.refused = refused;
    seen.sound.askedAgain = asked - first;
  });

  // A code by mail, on a phone and without scripts.
  await withBrowser(async (browser) => {
    const phone = { viewport: { width: 390, height: 844 }, isMobile: true, acceptDownloads: true, locale: 'en-GB', javaScriptEnabled: false };
    const context = await browser.newContext(phone);
    const page = await context.newPage();
    listen(page, 'sign-in');
    await page.goto(plan.signIn);
    await page.fill('#address', plan.address);
    await page.click('main form button');
    const code = await mailedCode(0);
    await page.fill('#code', code);
    await page.click('main form button');
    seen.signedIn = { heading: await page.locator('h1').textContent(), at: new URL(page.url()).pathname.slice(0, 3) };
    seen.signedInFile = await downloaded(page, () => page.locator('main form button').first().click());
    await context.close();

    // Every page in every language, wide and narrow, light and dark.
    seen.languages = {};
    for (const locale of ['en', 'de', 'fr', 'es', 'ja', 'ar']) {
      const colorScheme = locale === 'de' ? 'dark' : 'light';
      const options = { locale, colorScheme, viewport: { width: 390, height: 844 }, isMobile: true, reducedMotion: 'reduce' };
      const context = await browser.newContext(options);
      const page = await context.newPage();
      for (const [name, url] of Object.entries(plan.troubles)) {
        listen(page, `${name} in ${locale}`);
        await page.goto(url);
        await judge(page, `${name} in ${locale}`);
        const html = page.locator('html');
        (seen.languages[name] ??= []).push(`${await html.getAttribute('lang')} ${await html.getAttribute('dir')}`);
        page.removeAllListeners('console');
        page.removeAllListeners('pageerror');
      }
      await context.close();
    }
  });
  console.log(JSON.stringify(seen, null, 1));
} catch (error) {
  console.log(JSON.stringify(seen, null, 1));
  console.error(`portal: ${error.stack}`);
  process.exitCode = 70;
}
