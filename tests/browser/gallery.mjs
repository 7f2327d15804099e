// Reads gallery pages as people do, and tells what happened.
//
//   node tests/browser/gallery.mjs PICTURES < pages.json > seen.json
//
// In:  [{"name": "twelve", "url": "http://…", "stories": ["look", "plain", …]}]; "looks": ["desk-light", …] chooses among the looks
// Out: {"twelve": {"look": …, "plain": …}}; PICTURES is a directory that gets a picture of each look.
//
//   look      light and dark, on a desk and on a phone: what loads, and what axe-core says of pictures, list, lightbox, end
//   glance    the same on a desk in light, without axe-core
//   plain     without scripts: the list, the lightbox by :target
//   keys      with the keyboard alone: the way to the first picture, the lightbox, and back
//   swipe     with a finger, in the lightbox of a phone
//   tools     search, kinds, order, links taken along
//   time      the reader's clock before, within and after the life of the links
//   fits      the width of the page, and what sticks out of it, at every width from 320 to 1,280 pixels with each menu open
//   rows      the heights of the rows of pictures, and the height that they start from, at widths from 320 to 1,920 pixels
//   withdrawn what a picture whose link is refused leaves, and the page that its link opens
//   search    on the first of many pages: what is found, and where a hit leads to
//   speed     milliseconds from an empty cache to a page that answers
//
// Exit 0 if all stories were read to the end, however they ended; 70 else.

import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { picture, require, withBrowser } from './browser.mjs';

const pictures = process.argv[2];
const wanted = JSON.parse(readFileSync(0, 'utf8'));
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
mkdirSync(pictures, { recursive: true });

const DESK = { viewport: { width: 1200, height: 800 }, locale: 'en-GB', timezoneId: 'UTC', reducedMotion: 'reduce' };
const PHONE = { ...DESK, viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

/** A URL without its query: the query of a signed link is a secret. */
const bare = (url) => (url.startsWith('data:') ? 'data:' : url.split(/[?#]/)[0]);

/** Opens a page, calls `work(page)`, and returns what that returns together with all complaints of the browser. */
async function visit(browser, url, options, work) {
  const context = await browser.newContext(options);
  try {
    const page = await context.newPage();
    const complaints = [];
    const hosts = new Set();
    // The browser's own issues, which are there without scripts too, and what the page itself would hear.
    const audits = await context.newCDPSession(page);
    audits.on('Audits.issueAdded', ({ issue }) => {
      const csp = issue.details.contentSecurityPolicyIssueDetails;
      if (csp) complaints.push(`policy: ${csp.violatedDirective} ${bare(csp.blockedURL ?? csp.contentSecurityPolicyViolationType)}`);
    });
    await audits.send('Audits.enable');
    await page.addInitScript(() => {
      window.violations = [];
      document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));
    });
    page.on('console', (message) => message.type() === 'error' && complaints.push(`console: ${message.text()}`));
    page.on('pageerror', (error) => complaints.push(`uncaught: ${error.message}`));
    page.on('request', (request) => hosts.add(new URL(request.url()).host || new URL(request.url()).protocol));
    page.on('response', (response) => response.status() >= 400 && complaints.push(`${response.status()}: ${bare(response.url())}`));
    page.on('requestfailed', (request) => {
      // A player, and a page that is left, stop what they no longer need.
      const why = request.failure()?.errorText ?? 'failed';
      if (why !== 'net::ERR_ABORTED') complaints.push(`${why}: ${bare(request.url())}`);
    });
    await page.goto(url, { waitUntil: 'load', timeout: 30_000 });
    const told = await work(page);
    const heard = (await page.evaluate(() => window.violations)) ?? [];
    return { ...told, complaints: [...complaints, ...heard.map((directive) => `heard: ${directive}`)], hosts: [...hosts] };
  } finally {
    await context.close();
  }
}

/** What axe-core finds, in one line each. */
async function judge(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(' ')).slice(0, 3).join(', ')}`);
}

/** Scrolls through the page until all pictures that come late are there. */
async function unroll(page) {
  await page.evaluate(async () => {
    for (let at = 0; at < Math.min(document.body.scrollHeight, 30_000); at += 600) {
      window.scrollTo(0, at);
      // A picture that comes late is asked for when a frame is drawn.
      await new Promise((next) => requestAnimationFrame(() => setTimeout(next, 20)));
    }
    window.scrollTo(0, 0);
  });
  // One that does not come is seen by whoever counts them.
  await page.waitForFunction(() => [...document.images].every((image) => image.complete), null, { timeout: 15_000 }).catch(() => {});
}

const facts = (page) =>
  page.evaluate(() => ({
    title: document.title,
    sideways: document.documentElement.scrollWidth > innerWidth,
    images: document.images.length,
    loaded: [...document.images].filter((image) => image.complete && image.naturalWidth > 0).length,
    links: [...document.querySelectorAll('main :is(a[href^=http], img[src^=http], video, audio)')].map((element) => element.href || element.src),
  }));

const stories = {
  async look(browser, { name, url, looks: chosen }) {
    const looks = {};
    const all = Object.entries({ desk: DESK, phone: PHONE }).flatMap(([device, options]) => ['light', 'dark'].map((colorScheme) => [`${device}-${colorScheme}`, { ...options, colorScheme }]));
    for (const [look, options] of all.filter(([look]) => chosen?.includes(look) ?? true)) {
      const shoot = (page, what) => picture(page, { path: join(pictures, `${name}-${look}-${what}.png`) });
      looks[look] = await visit(browser, url, options, async (page) => {
        await unroll(page);
        const told = { ...(await facts(page)), axe: { pictures: await judge(page) } };
        await shoot(page, 'pictures');
        if (await page.locator('.views').count()) {
          await page.click('label[for=as-list]');
          told.axe.list = await judge(page);
          await shoot(page, 'list');
          await page.click('label[for=as-pictures]');
          await page.click('.take summary');
          told.axe.menu = await judge(page);
          await page.keyboard.press('Escape');
        }
        if (await page.locator('.photos td a').count()) {
          await page.locator('.photos td a').first().click();
          told.axe.lightbox = await judge(page);
          await shoot(page, 'lightbox');
          await page.keyboard.press('Escape');
          // Closing goes back in the history, and would end the next navigation.
          await page.waitForFunction(() => !document.querySelector('dialog[open]') && !location.hash);
        }
        await page.clock.setFixedTime(Date.now() + 30 * 86_400_000);
        await page.goto(url);
        await shoot(page, 'ended');
        told.axe.ended = await judge(page);
        told.ended = await page.evaluate(() => document.documentElement.classList.contains('ended'));
        return told;
      });
    }
    return looks;
  },

  glance: (browser, { name, url }) =>
    visit(browser, url, DESK, async (page) => {
      await page.waitForFunction(() => [...document.images].filter((image) => image.getBoundingClientRect().top < innerHeight).every((image) => image.complete));
      await picture(page, { path: join(pictures, `${name}.png`) });
      return facts(page);
    }),

  plain: (browser, { name, url }) =>
    visit(browser, url, { ...DESK, javaScriptEnabled: false }, async (page) => {
      const display = (selector) => page.locator(selector).first().evaluate((element) => getComputedStyle(element).display);
      const opened = () =>
        page.evaluate(() => {
          const row = document.querySelector('tr:target');
          const { width, height } = row?.getBoundingClientRect() ?? { width: 0, height: 0 };
          return { row: row?.id ?? null, whole: width === innerWidth && height === innerHeight };
        });
      const told = { tools: await page.locator('[data-js]:visible').count() };
      await page.click('label[for=as-list]');
      told.list = { table: await display('table'), row: await display('tbody tr'), cell: await display('tbody td') };
      await picture(page, { path: join(pictures, `${name}-plain-list.png`) });
      await page.click('label[for=as-pictures]');
      told.pictures = { table: await display('table') };
      const first = page.locator('.photos td > a').first();
      await first.click();
      told.opened = await opened();
      await picture(page, { path: join(pictures, `${name}-plain-lightbox.png`) });
      await page.locator('tr:target nav a').filter({ hasText: '›' }).click();
      told.next = await opened();
      await page.locator('tr:target nav a').filter({ hasText: '×' }).click();
      told.closed = await opened();
      return told;
    }),

  keys: (browser, { url }) =>
    visit(browser, url, DESK, async (page) => {
      const focused = () =>
        page.evaluate(() => {
          const element = document.activeElement;
          return element.id || element.className || element.getAttribute('aria-label') || element.tagName.toLowerCase();
        });
      const state = async () => ({
        open: await page.locator('dialog[open]').count(),
        hash: await page.evaluate(() => location.hash),
        place: await page.locator('dialog .place').textContent(),
      });
      const press = (key) => page.keyboard.press(key);
      const way = [];
      do {
        await press('Tab');
        way.push(await focused());
      } while (!/^p\d+$/.test(way.at(-1)) && way.length < 40);
      await press('Enter');
      await page.waitForSelector('dialog[open]');
      const told = { way, opened: await state() };
      for (const key of ['ArrowRight', 'End', 'ArrowRight', 'Home', 'ArrowLeft', 'ArrowLeft']) {
        await press(key);
        (told.moves ??= []).push(`${key} ${(await state()).place}`);
      }
      const inside = new Set();
      for (let tabs = 0; tabs < 8; tabs++) {
        await press('Tab');
        inside.add(await page.evaluate(() => (document.activeElement.closest('dialog') ? 'inside' : document.activeElement.tagName)));
      }
      told.inside = [...inside];
      const last = (await state()).hash;
      await press('Escape');
      await page.waitForFunction(() => !document.querySelector('dialog[open]') && !location.hash);
      told.closed = { ...(await state()), returned: (await focused()) === last.replace('#i', 'p') };
      await page.keyboard.press('Enter');
      await page.waitForSelector('dialog[open]');
      await page.goBack();
      await page.waitForFunction(() => !document.querySelector('dialog[open]'));
      told.back = await state();
      await page.goto(`${url}${last}`);
      await page.reload();
      await page.waitForSelector('dialog[open]');
      told.deep = (await state()).hash === last;
      return told;
    }),

  swipe: (browser, { url }) =>
    visit(browser, url, PHONE, async (page) => {
      const place = () => page.locator('dialog .place').textContent();
      const touch = await page.context().newCDPSession(page);
      const drag = async (right, down) => {
        const at = (part) => [{ x: 195 + right * (part - 0.5), y: 300 + down * part }];
        await touch.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: at(0) });
        for (const part of [0.25, 0.5, 0.75, 1]) await touch.send('Input.dispatchTouchEvent', { type: 'touchMove', touchPoints: at(part) });
        await touch.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
        return place();
      };
      await page.tap('tbody.photos td a');
      await page.waitForSelector('dialog[open]');
      const told = { opened: await place() };
      for (const [name, right, down] of [['left', -200, 0], ['left again', -200, 0], ['right', 200, 0], ['a little', -40, 0], ['down', 0, 200]]) told[name] = await drag(right, down);
      told.open = await page.locator('dialog[open]').count();
      return told;
    }),

  tools: (browser, { url }) =>
    visit(browser, url, { ...DESK, acceptDownloads: true, permissions: ['clipboard-read', 'clipboard-write'] }, async (page) => {
      const shown = () => page.locator('tbody tr:visible th a').allTextContents();
      const saved = async (what) => {
        await page.click('.take summary');
        const download = page.waitForEvent('download', { timeout: 10_000 });
        await page.click(`[data-take=${what}]`);
        const file = await download;
        return { name: file.suggestedFilename(), text: readFileSync(await file.path(), 'utf8') };
      };
      const told = { all: await shown() };
      await page.fill('.find', 'UBER');
      told.found = await shown();
      told.count = await page.locator('.found').textContent();
      await page.fill('.find', 'nothing is called this');
      told.none = { files: await shown(), note: await page.locator('.no-match').isVisible() };
      await page.fill('.find', '');
      await page.selectOption('.kind', 'sounds');
      told.sounds = await shown();
      await page.selectOption('.kind', '');
      for (const order of ['name', 'largest', 'newest', '']) {
        await page.selectOption('.order', order);
        told[`order ${order}`.trim()] = await shown();
      }
      await page.click('.take summary');
      await page.click('[data-take=copy]');
      told.said = await (await page.waitForFunction(() => document.querySelector('.found').value)).jsonValue();
      told.copied = (await page.evaluate(() => navigator.clipboard.readText())).split('\n');
      await page.locator('.copy').first().click();
      await page.locator('.copy.done').first().waitFor();
      told.copied_one = await page.evaluate(() => navigator.clipboard.readText());
      told.csv = await saved('csv');
      told.sh = await saved('sh');
      return told;
    }),

  fits: (browser, { name, url }) =>
    visit(browser, url, PHONE, async (page) => {
      const out = [];
      for (const width of [320, 344, 360, 375, 390, 412, 430, 480, 544, 560, 600, 640, 768, 834, 900, 1024, 1100, 1194, 1280]) {
        await page.setViewportSize({ width, height: 800 });
        const seen = await page.evaluate(() => {
          const found = [];
          const menus = [...document.querySelectorAll('details')];
          const look = (state) => {
            const { scrollWidth } = document.documentElement;
            if (scrollWidth > document.documentElement.clientWidth || innerWidth > screen.width) found.push(`${state}: ${scrollWidth} wide`);
            for (const inner of document.querySelectorAll('details[open] > :not(summary), .tools > *')) {
              const { left, right, width: own } = inner.getBoundingClientRect();
              if (own && (left < 0 || right > document.documentElement.clientWidth)) found.push(`${state}: ${inner.className || inner.tagName} from ${left} to ${right}`);
            }
          };
          const own = document.documentElement.dir;
          for (const dir of [own === 'rtl' ? 'ltr' : 'rtl', own]) {
            document.documentElement.dir = dir;
            for (const view of ['as-list', 'as-pictures']) {
              const choice = document.getElementById(view);
              if (choice) choice.checked = true;
              look(`${dir} ${view}`);
              for (const menu of menus) {
                menu.open = true;
                look(`${dir} ${view} ${menu.className}`);
              }
              for (const menu of menus) menu.open = false;
            }
          }
          return found;
        });
        out.push(...seen.map((what) => `${width}: ${what}`));
      }
      await page.setViewportSize(PHONE.viewport);
      if (await page.locator('.take summary').count()) await page.click('.take summary');
      await picture(page, { path: join(pictures, `${name}-phone-menu.png`) });
      return { out };
    }),

  rows: (browser, { name, url }) =>
    visit(browser, url, DESK, async (page) => {
      const widths = {};
      for (const width of [320, 390, 600, 834, 1000, 1280, 1600, 1920]) {
        await page.setViewportSize({ width, height: 1000 });
        await unroll(page);
        widths[width] = await page.evaluate(() => {
          const rows = new Map();
          const photos = document.querySelector('.photos.rows');
          for (const link of photos?.querySelectorAll('td > a') ?? []) {
            const { top, height } = link.getBoundingClientRect();
            const at = Math.round(top + scrollY);
            rows.set(at, Math.max(rows.get(at) ?? 0, height));
          }
          const probe = document.createElement('div');
          probe.style.setProperty('width', 'var(--row)');
          document.body.append(probe);
          const base = probe.getBoundingClientRect().width;
          probe.remove();
          return { base, heights: [...rows.values()] };
        });
        const sideways = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
        if (sideways) widths[width].complaints = ['can be pushed sideways'];
        await picture(page, { path: join(pictures, `${name}-rows-${width}.png`), fullPage: true });
      }
      return { widths };
    }),

  withdrawn: (browser, { name, url }) =>
    visit(browser, url, PHONE, async (page) => {
      await unroll(page);
      const told = { pictures: await page.locator('.photos img:not(.small)').count(), lost: await page.locator('.photos .lost').allTextContents() };
      await picture(page, { path: join(pictures, `${name}-withdrawn.png`) });
      const tab = page.context().waitForEvent('page');
      await page.locator('tr:has(.lost) th a').first().click();
      const opened = await tab;
      await opened.waitForLoadState();
      return { ...told, title: await opened.title() };
    }),

  search: (browser, { name, url }) =>
    visit(browser, url, DESK, async (page) => {
      const hits = () => page.locator('.hits .name').allTextContents();
      const told = { covers: await page.locator('.covers img').count() };
      await page.fill('.search .find', '0057');
      told.found = await hits();
      await picture(page, { path: join(pictures, `${name}-search.png`) });
      await page.fill('.search .find', 'SUD.pdf');
      told['without marks'] = await hits();
      await page.fill('.search .find', 'dsc_');
      told.many = { count: await page.locator('.found').textContent(), hits: (await hits()).length };
      await page.fill('.search .find', 'nothing is called this');
      told.none = await page.locator('.no-match').isVisible();
      await page.fill('.search .find', '0057');
      await page.click('.hits a');
      await page.waitForSelector('dialog[open]');
      const place = await page.evaluate(() => location.pathname.split('/').at(-1));
      told.opened = { page: place, lightbox: await page.locator('dialog .name').textContent() };
      return told;
    }),

  time: async (browser, { url }) => {
    const told = {};
    for (const [when, days] of Object.entries({ behind: -3, within: 0, later: 0.9, after: 30 })) {
      told[when] = await visit(browser, url, DESK, async (page) => {
        await page.clock.setFixedTime(Date.now() + days * 86_400_000);
        await page.reload();
        const visible = (selector) => page.locator(selector).first().isVisible();
        return { left: await visible('.left'), words: await page.locator('.left').textContent(), note: await visible('.ended-note'), clock: await visible('.clock'), ask: await page.locator('.ended-note a').getAttribute('href') };
      });
    }
    return told;
  },

  speed: async (browser, { url }) =>
    visit(browser, 'about:blank', DESK, async (page) => {
      await page.goto(url, { waitUntil: 'commit' });
      // It answers when the script has run and a frame was drawn after it.
      await page.waitForFunction(() => document.documentElement?.classList.contains('js') && document.readyState !== 'loading', null, { polling: 'raf' });
      const answers = await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => setTimeout(() => drawn(performance.now())))));
      const { domInteractive, domContentLoadedEventEnd } = await page.evaluate(() => performance.getEntriesByType('navigation')[0].toJSON());
      return { answers: Math.round(answers), parsed: Math.round(domInteractive), ready: Math.round(domContentLoadedEventEnd) };
    }),
};

try {
  const seen = {};
  await withBrowser(async (browser) => {
    for (const page of wanted) {
      seen[page.name] = {};
      for (const story of page.stories) {
        const begun = Date.now();
        seen[page.name][story] = await stories[story](browser, page);
        console.error(`${page.name}: ${story}: ${Date.now() - begun} ms`);
      }
    }
  });
  console.log(JSON.stringify(seen));
} catch (error) {
  console.error(`gallery: ${error.message}`);
  process.exitCode = 70;
}
