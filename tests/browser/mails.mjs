// Looks at mails as their readers do: on a phone, in a column, on a desk; by day and by night; and where the styles were dropped.
//
//   node tests/browser/mails.mjs OUT NAME=FILE…
//
// Writes OUT/NAME-WIDTH-SCHEME.png for widths of 320, 600 and 1,000 px, light and dark, and OUT/NAME-320-bare.png without <style>,
// as some web mail shows it. Prints JSON: {pictures, complaints: ["NAME WIDTH SCHEME: …"]}. A complaint is
//
//   - a page that can be pushed sideways, or an element that stands out of the window
//   - what axe-core finds of WCAG 2.1 A and AA, contrast above all, or cannot decide about contrast
//   - a link that is not https, an address that a reader's program would load from
//   - any request at all but for the file itself
//
// Exit 0 without a complaint, 1 with some, 64 usage, 70 the mails could not be looked at.

import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { address, picture, require, withPage } from './browser.mjs';

const WIDTHS = [320, 600, 1000];
const SCHEMES = ['light', 'dark'];
const RULES = { runOnly: { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] } };

const [out, ...named] = process.argv.slice(2);
const mails = named.map((argument) => argument.split(/=(.*)/s, 2));
if (!mails.length || mails.some(([name, file]) => !name || !file)) {
  console.error('usage: mails.mjs OUT NAME=FILE…');
  process.exit(64);
}

const complaints = [];
let pictures = 0;

try {
  const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
  mkdirSync(out, { recursive: true });
  const options = { viewport: { width: 1000, height: 900 }, reducedMotion: 'reduce', locale: 'en-GB', timezoneId: 'UTC' };
  await withPage(options, async (page) => {
    let asked = [];
    page.on('request', (request) => asked.push(request.url()));
    for (const [name, file] of mails) {
      const url = address(file);
      for (const scheme of SCHEMES) {
        await page.emulateMedia({ colorScheme: scheme });
        asked = [];
        await page.goto(url, { waitUntil: 'load', timeout: 30_000 });
        for (const width of WIDTHS) await look(page, name, width, scheme);
        await judge(page, `${name} ${scheme}`, axe);
        const strangers = asked.filter((seen) => seen !== url && !seen.startsWith('data:')).map((seen) => seen.split('?')[0]);
        if (strangers.length) complaints.push(`${name} ${scheme}: asks for ${strangers.join(', ')}`);
      }
      await page.emulateMedia({ colorScheme: 'light' });
      await page.evaluate(() => document.querySelectorAll('style').forEach((style) => style.remove()));
      await look(page, name, 320, 'bare');
    }
  });
  console.log(JSON.stringify({ pictures, complaints }, null, 1));
  process.exitCode = complaints.length ? 1 : 0;
} catch (error) {
  console.error(`mails: ${error.message}`);
  process.exitCode = 70;
}

/** Takes a picture at a width, and complains about what does not fit into it. */
async function look(page, name, width, scheme) {
  await page.setViewportSize({ width, height: 900 });
  await picture(page, { path: join(out, `${name}-${width}-${scheme}.png`), fullPage: true });
  pictures += 1;
  const sideways = await page.evaluate(() => {
    const root = document.documentElement;
    const outside = [...document.body.querySelectorAll('*')].filter((element) => {
      const { left, right, width } = element.getBoundingClientRect();
      return width > 0 && (left < -0.5 || right > root.clientWidth + 0.5);
    });
    const names = outside.slice(0, 3).map((element) => `<${element.localName}> ${element.textContent.trim().slice(0, 40)}`);
    return root.scrollWidth > root.clientWidth ? [`${root.scrollWidth} px wide`, ...names] : names;
  });
  if (sideways.length) complaints.push(`${name} ${width} ${scheme}: stands out: ${sideways.join('; ')}`);
}

/** Complains about what readers could not read, and about addresses that lead elsewhere than they should. */
async function judge(page, where, axe) {
  await page.evaluate(axe);
  const judged = await page.evaluate((rules) => axe.run(document, rules), RULES);
  const undecided = judged.incomplete.filter(({ id }) => id === 'color-contrast');
  for (const { id, nodes } of [...judged.violations, ...undecided]) {
    complaints.push(`${where}: ${id}: ${nodes.length} × ${nodes[0].failureSummary ?? ''} ${nodes[0].html.slice(0, 200)}`);
  }
  const wrong = await page.evaluate(() => {
    const links = [...document.querySelectorAll('[href]')].filter(({ href }) => !href.startsWith('https://'));
    const loads = [...document.querySelectorAll('[src]:not(img.logo[src^="data:image/"]), [srcset], [background], link, script, iframe, form')];
    return [...links, ...loads].map((element) => element.outerHTML.slice(0, 120));
  });
  if (wrong.length) complaints.push(`${where}: leads elsewhere: ${wrong.join('; ')}`);
}
