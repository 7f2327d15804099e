// Asks Chromium under which names it would save links, and what it then has.
//
//   node tests/browser/download.mjs < urls.txt
//
// One URL a line in; one JSON object a line out: the name, the text and the bytes (in hex) of the download. Exit 0, or 70 when a link is shown instead of saved.

import { readFileSync } from 'node:fs';
import { withPage } from './browser.mjs';

const urls = readFileSync(0, 'utf8').split('\n').filter(Boolean);
try {
  // USER_AGENT: what a browser of a person calls itself.
  await withPage({ acceptDownloads: true, userAgent: process.env.USER_AGENT }, async (page) => {
    for (const url of urls) {
      const download = page.waitForEvent('download', { timeout: 20_000 });
      // Going to a download ends with an error in playwright; the event is what counts.
      await page.goto(url, { timeout: 20_000 }).catch(() => {});
      const saved = await download;
      const bytes = readFileSync(await saved.path());
      console.log(JSON.stringify({ name: saved.suggestedFilename(), text: bytes.toString('utf8'), bytes: bytes.toString('hex') }));
    }
  });
} catch (error) {
  console.error(`download: ${error.message}`);
  process.exitCode = 70;
}
