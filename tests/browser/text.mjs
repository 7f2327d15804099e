// Asks Chromium what it shows of links.
//
//   node tests/browser/text.mjs < urls.txt
//
// One URL a line in; one JSON object a line out: the text of the page. Exit 0, or 70 when a link is saved instead of shown.

import { readFileSync } from 'node:fs';
import { withPage } from './browser.mjs';

const urls = readFileSync(0, 'utf8').split('\n').filter(Boolean);
try {
  await withPage({}, async (page) => {
    for (const url of urls) {
      await page.goto(url, { timeout: 20_000 });
      const text = await page.evaluate(() => document.body.innerText);
      console.log(JSON.stringify({ text, charset: await page.evaluate(() => document.characterSet) }));
    }
  });
} catch (error) {
  console.error(`text: ${error.message}`);
  process.exitCode = 70;
}
