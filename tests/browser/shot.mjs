// Takes a picture of a page and says what the page did, as one JSON object.
//
//   node tests/browser/shot.mjs URL_OR_FILE OUT.png [--width 1000] [--height 800] [--full] [--dark] [--no-js] [--mobile] [--print]
//                               [--scale 2] [--click SELECTOR] [--wait MS] [--title TEXT]
//
//   --full    the whole page, not only the window          --dark    prefers-color-scheme: dark
//   --no-js   scripts are off                              --mobile  390 × 844, touch, two device pixels (unless told otherwise)
//   --print   as on paper                                  --click   clicks once before the picture; may be given once
//   --title   waits until the page has this title, 20 s at most
//
//   title, url, status
//   width, height, scroll_width     of the window; scroll_width > width means that the page can be pushed sideways
//   console_errors                  messages of level error, and uncaught exceptions
//   csp_violations                  what the page's own Content-Security-Policy refused: [{directive, blocked, source}]
//   failed_requests                 [{url, why}] (network failures and statuses from 400; query strings are cut)
//   broken_images                   number of <img> that did not load; images is the number of all
//   broken_media                    number of <video>/<audio> with an error
//   requests                        hosts that the page asked, each once, in order: "file", "data", "127.0.0.1:9470"
//
// Exit 0 if a picture was taken, however bad the page is; 64 usage; 1 else.

import { writeFileSync } from 'node:fs';
import { address, parse, withPage } from './browser.mjs';

const asked = parse(
  'shot.mjs URL_OR_FILE OUT.png [--width N] [--height N] [--scale N] [--click SELECTOR] [--wait MS] [--title TEXT] [--full] [--dark] [--no-js] [--mobile] [--print]',
  2,
  ['width', 'height', 'scale', 'click', 'wait', 'title'],
  ['full', 'dark', 'no-js', 'mobile', 'print'],
);
const [target, out] = asked._;
const width = Number(asked.width ?? (asked.mobile ? 390 : 1000));
const height = Number(asked.height ?? (asked.mobile ? 844 : 800));

const said = { console_errors: [], csp_violations: [], failed_requests: [], requests: [] };

/** A URL without its query: the query of a signed link is a secret. */
const bare = (url) => (url.startsWith('data:') ? 'data:' : url.split(/[?#]/)[0]);
const host = (url) => {
  const { protocol, host } = new URL(url);
  return host || protocol.replace(':', '');
};

const options = {
  viewport: { width, height },
  deviceScaleFactor: Number(asked.scale ?? (asked.mobile ? 2 : 1)),
  colorScheme: asked.dark ? 'dark' : 'light',
  javaScriptEnabled: !asked['no-js'],
  isMobile: Boolean(asked.mobile),
  hasTouch: Boolean(asked.mobile),
  reducedMotion: 'reduce',
  locale: 'en-GB',
  timezoneId: 'UTC',
};

try {
  await withPage(options, async (page) => {
    // Reported through the browser's own issues, so that it works without scripts in the page and sees what a meta tag refused.
    const audits = await page.context().newCDPSession(page);
    audits.on('Audits.issueAdded', ({ issue }) => {
      const csp = issue.details.contentSecurityPolicyIssueDetails;
      if (csp && !csp.isReportOnly) {
        said.csp_violations.push({
          directive: csp.violatedDirective,
          blocked: csp.blockedURL ? bare(csp.blockedURL) : csp.contentSecurityPolicyViolationType,
          source: csp.sourceCodeLocation ? `${bare(csp.sourceCodeLocation.url)}:${csp.sourceCodeLocation.lineNumber + 1}` : null,
        });
      }
    });
    await audits.send('Audits.enable');
    page.on('console', (message) => {
      if (message.type() === 'error') said.console_errors.push(message.text());
    });
    page.on('pageerror', (error) => said.console_errors.push(`uncaught: ${error.message}`));
    const asked_for = [];
    page.on('request', (request) => asked_for.push(request));
    page.on('requestfailed', (request) => {
      // A player stops a download as soon as it has what it needs.
      const why = request.failure()?.errorText ?? 'failed';
      if (!(why === 'net::ERR_ABORTED' && request.resourceType() === 'media')) {
        said.failed_requests.push({ url: bare(request.url()), why });
      }
    });
    page.on('response', (response) => {
      if (response.status() >= 400) said.failed_requests.push({ url: bare(response.url()), why: String(response.status()) });
    });

    if (asked.print) await page.emulateMedia({ media: 'print' });
    const answer = await page.goto(address(target), { waitUntil: 'load', timeout: 30_000 });
    if (asked.full) await unroll(page);
    if (asked.click) await page.click(asked.click, { timeout: 5_000 });
    // A page that never gets its title is reported as it is.
    if (asked.title) await page.waitForFunction((title) => document.title === title, asked.title, { timeout: 20_000 }).catch(() => {});
    await page.waitForTimeout(Number(asked.wait ?? 150));
    writeFileSync(out, await page.screenshot({ fullPage: Boolean(asked.full), animations: 'disabled' }));

    // evaluate() goes through the debugger and works with scripts off, too.
    const seen = await page.evaluate(() => ({
      scroll_width: document.documentElement.scrollWidth,
      images: document.images.length,
      // A lazy one that is far below has not begun.
      broken_images: [...document.images].filter((image) =>
        image.complete ? image.naturalWidth === 0 : image.loading !== 'lazy').length,
      broken_media: [...document.querySelectorAll('video, audio')].filter((media) => media.error).length,
    }));
    // What the policy refused never left the browser.
    const sent = asked_for.filter((request) => request.failure()?.errorText !== 'csp');
    said.requests = [...new Set(sent.map((request) => host(request.url())))];
    const facts = { title: await page.title(), url: bare(page.url()), status: answer?.status() ?? null, width, height, ...seen };
    console.log(JSON.stringify({ ...facts, ...said }, null, 1));
  });
} catch (error) {
  console.error(`shot: ${error.message}`);
  process.exitCode = 1;
}

/** Scrolls through the page once, so that images with loading="lazy" are there, and back. */
async function unroll(page) {
  const length = await page.evaluate(() => document.documentElement.scrollHeight);
  for (let at = 0; at < Math.min(length, 60_000); at += height) {
    await page.evaluate((to) => window.scrollTo(0, to), at);
    await page.waitForTimeout(30);
  }
  await page.waitForLoadState('networkidle').catch(() => {});
  // What the browser leaves out while it is not seen would be empty in the picture.
  await page.evaluate(() => document.querySelectorAll('section').forEach((section) => { section.style.contentVisibility = 'visible'; }));
  await page.evaluate(() => window.scrollTo(0, 0));
}
