// Asks axe-core what is wrong with a page for people who cannot see, hear or point well.
//
//   node tests/browser/axe.mjs URL_OR_FILE [--dark] [--mobile] [--click SELECTOR]
//
// Prints JSON: {title, violations: [{id, impact, help, url, nodes: [{target, html, summary}]}], incomplete: [id…], passes}.
// Exit 0 no violation, 1 there are some, 64 usage, 70 the page could not be judged.

import { readFileSync } from 'node:fs';
import { address, parse, require, withPage } from './browser.mjs';

const asked = parse('axe.mjs URL_OR_FILE [--dark] [--mobile] [--click SELECTOR]', 1, ['click'], ['dark', 'mobile']);
const options = {
  viewport: asked.mobile ? { width: 390, height: 844 } : { width: 1000, height: 800 },
  colorScheme: asked.dark ? 'dark' : 'light',
  isMobile: Boolean(asked.mobile),
  reducedMotion: 'reduce',
  locale: 'en-GB',
};

try {
  await withPage(options, async (page) => {
    await page.goto(address(asked._[0]), { waitUntil: 'load', timeout: 30_000 });
    if (asked.click) await page.click(asked.click, { timeout: 5_000 });
    // Evaluated through the debugger, not by a <script>: the page keeps its strict Content-Security-Policy.
    await page.evaluate(readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8'));
    const judged = await page.evaluate(() => axe.run(document, { resultTypes: ['violations', 'incomplete'] }));
    const violations = judged.violations.map(({ id, impact, help, helpUrl, nodes }) => ({
      id,
      impact,
      help,
      url: helpUrl,
      nodes: nodes.map((node) => ({ target: node.target.join(' '), html: node.html.slice(0, 300), summary: node.failureSummary })),
    }));
    const incomplete = judged.incomplete.map(({ id }) => id);
    console.log(JSON.stringify({ title: await page.title(), violations, incomplete, passes: judged.passes.length }, null, 1));
    process.exitCode = violations.length ? 1 : 0;
  });
} catch (error) {
  console.error(`axe: ${error.message}`);
  process.exitCode = 70;
}
