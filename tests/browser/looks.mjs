// Looks at pages that need no action: from a phone to a wide desk, by day and by night.
//
//   node tests/browser/looks.mjs OUT NAME=URL…
//
// Writes OUT/NAME-WIDTH-SCHEME.png for widths from 320 to 1,920 px, light and dark. Prints JSON: {pictures, complaints, seen}, where `seen`
// has {title, logo: the width at which the logo is shown, message: its paragraphs, address: the last lines} by name. A complaint is a page
// that can be pushed sideways, what axe-core finds, what the page's policy refused, or a picture that did not load.
//
// Exit 0 unless the browser could not be driven, 70.

import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { picture, require, withPage } from './browser.mjs';

const WIDTHS = [320, 390, 834, 1280, 1920];
const [out, ...named] = process.argv.slice(2);
const pages = named.map((argument) => argument.split(/=(.*)/s, 2));
const told = { pictures: 0, complaints: [], seen: {} };

try {
  const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
  mkdirSync(out, { recursive: true });
  for (const scheme of ['light', 'dark']) {
    await withPage({ colorScheme: scheme, reducedMotion: 'reduce', locale: 'en-GB', timezoneId: 'UTC' }, async (page) => {
      let where = '';
      page.on('console', (message) => {
        // A page that says what is wrong with a link is no 200, and the browser says so.
        const isStatus = /the server responded with a status of/.test(message.text());
        if (message.type() === 'error' && !isStatus) told.complaints.push(`${where}: ${message.text()}`);
      });
      page.on('pageerror', (error) => told.complaints.push(`${where}: ${error.message}`));
      for (const [name, url] of pages) {
        where = `${name} ${scheme}`;
        await page.goto(url, { waitUntil: 'load', timeout: 30_000 });
        told.seen[name] = await page.evaluate(() => {
          const texts = (selector) => [...document.querySelectorAll(selector)].map((element) => element.innerText);
          const logo = document.querySelector('img.logo');
          return { title: document.title, logo: logo ? Math.round(logo.clientWidth) : null, message: texts('.message p'), address: texts('.address').join() };
        });
        for (const width of WIDTHS) {
          await page.setViewportSize({ width, height: 900 });
          const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          if (over > 0) told.complaints.push(`${where} ${width}: ${over} px wider than the window`);
          await picture(page, { path: join(out, `${name}-${width}-${scheme}.png`), fullPage: true });
          told.pictures += 1;
        }
        const broken = await page.evaluate(() => [...document.images].filter((image) => image.complete && !image.naturalWidth).length);
        if (broken) told.complaints.push(`${where}: ${broken} pictures did not load`);
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
        for (const { id, help, nodes } of violations) told.complaints.push(`${where}: ${id}: ${help}: ${nodes[0]?.html.slice(0, 200)}`);
      }
    });
  }
  console.log(JSON.stringify(told, null, 1));
} catch (error) {
  console.error(`looks: ${error.message}`);
  process.exitCode = 70;
}
