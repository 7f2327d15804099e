// Looks at renditions as a browser shows them.
//
//   node tests/browser/renditions.mjs < asked.json > seen.json
//
// In:  {"alike": [{"name": "p3.jpg", "picture": "data:…", "rendition": "data:…"}], "page": {"url": "http://…", "pictures": DIR}}; each may be absent
// Out: {"alike": {"p3.jpg": {"mean": …, "most": …}}, "page": …}
//
//   alike  how far the colours of a rendition are from those of its picture, from 0 to 255, drawn small by the browser:
//          on average, and at most in a part of the picture
//   page   at 10 Mbit/s and 50 ms, on a desk and on a phone: bytes, the time of the largest paint, where the first picture is, which
//          pictures were asked for; every width from 320 to 1,920 pixels for what sticks out; axe-core; the lightbox; the names of
//          downloads from the lightbox, a card and a selection; and what is seen when no rendition loads
//
// Exit 0 if all was looked at, 70 else.

import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { picture, require, withBrowser } from './browser.mjs';

const { alike = [], page: asked } = JSON.parse(readFileSync(0, 'utf8'));
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const DESK = { viewport: { width: 1280, height: 800 }, locale: 'en-GB', timezoneId: 'UTC', reducedMotion: 'reduce' };
const PHONE = { ...DESK, viewport: { width: 390, height: 844 }, deviceScaleFactor: 3, isMobile: true, hasTouch: true };
const name = (url) => decodeURIComponent(new URL(url).pathname.split('/').pop());

async function compare(page, { picture, rendition }) {
  return page.evaluate(async (sources) => {
    const draw = async (source) => {
      const image = new Image();
      image.src = source;
      await image.decode();
      const canvas = document.createElement('canvas');
      const scale = 90 / Math.max(image.naturalWidth, image.naturalHeight);
      canvas.width = Math.round(image.naturalWidth * scale);
      canvas.height = Math.round(image.naturalHeight * scale);
      const context = canvas.getContext('2d', { willReadFrequently: true });
      context.imageSmoothingQuality = 'high';
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      return context.getImageData(0, 0, canvas.width, canvas.height);
    };
    const [a, b] = await Promise.all(sources.map(draw));
    if (Math.abs(a.width - b.width) > 1 || Math.abs(a.height - b.height) > 1) return { sizes: [a.width, a.height, b.width, b.height] };
    // In squares of five: an edge may lie a pixel further.
    const squares = new Map();
    let sum = 0;
    for (let y = 0; y < Math.min(a.height, b.height); y++) {
      for (let x = 0; x < Math.min(a.width, b.width); x++) {
        for (let channel = 0; channel < 3; channel++) {
          const difference = a.data[4 * (y * a.width + x) + channel] - b.data[4 * (y * b.width + x) + channel];
          sum += Math.abs(difference);
          const square = `${Math.floor(x / 5)} ${Math.floor(y / 5)} ${channel}`;
          squares.set(square, (squares.get(square) ?? 0) + difference / 25);
        }
      }
    }
    return { mean: sum / (3 * a.width * a.height), most: Math.max(...[...squares.values()].map(Math.abs)) };
  }, [picture, rendition]);
}

/** Opens the page at 10 Mbit/s and 50 ms from an empty cache, without scrolling. */
async function open(browser, options, work) {
  const context = await browser.newContext({ ...options, acceptDownloads: true });
  try {
    const page = await context.newPage();
    const complaints = [];
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
    return { ...(await work(page, context)), complaints };
  } finally {
    await context.close();
  }
}

async function load(page, context) {
  const network = await context.newCDPSession(page);
  await network.send('Network.enable');
  await network.send('Network.emulateNetworkConditions', { offline: false, latency: 50, downloadThroughput: 10e6 / 8, uploadThroughput: 10e6 / 8 });
  let bytes = 0;
  const pictures = [];
  network.on('Network.loadingFinished', ({ encodedDataLength }) => (bytes += encodedDataLength));
  network.on('Network.requestWillBeSent', ({ request, type }) => type === 'Image' && !request.url.startsWith('data:') && pictures.push(name(request.url)));
  await page.addInitScript(() => {
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.largest = { at: entry.startTime, of: entry.element?.className, url: entry.url };
    }).observe({ type: 'largest-contentful-paint', buffered: true });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.moved = (window.moved ?? 0) + entry.value;
    }).observe({ type: 'layout-shift', buffered: true });
    // When the first picture is there to be painted.
    document.addEventListener('load', ({ target }) => { if (target.matches?.('.photos img')) window.first ??= performance.now(); }, true);
  });
  await page.goto(asked.url, { waitUntil: 'load', timeout: 120_000 });
  await page.waitForTimeout(1500);
  const told = await page.evaluate(() => {
    const images = [...document.querySelectorAll('.photos td > a > img:last-of-type')];
    const { top, bottom } = images[0].getBoundingClientRect();
    return {
      largest: window.largest.at,
      largest_is_picture: Boolean(window.largest.url),
      first: window.first,
      moved: window.moved ?? 0,
      top,
      bottom,
      screen: innerHeight,
      loaded: images.filter((image) => image.complete && image.naturalWidth > 0).length,
      images: images.length,
    };
  });
  return { ...told, bytes, pictures };
}

async function read(browser) {
  mkdirSync(asked.pictures, { recursive: true });
  const shoot = (page, what) => picture(page, { path: join(asked.pictures, `renditions-${what}.png`) });
  const judge = async (page) => {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(' ')).slice(0, 3).join(', ')}`);
  };
  const told = {};
  for (const [device, options] of Object.entries({ desk: DESK, phone: PHONE })) {
    // How much moves depends on when scripts arrive: a busy machine has three tries.
    for (let attempt = 0; attempt < 3 && !(told[device]?.moved < 0.1); attempt += 1) {
      told[device] = await open(browser, options, async (page, context) => {
        const loaded = await load(page, context);
        await shoot(page, device);
        return loaded;
      });
    }
  }
  told.widths = await open(browser, DESK, async (page) => {
    await page.goto(asked.url, { waitUntil: 'load' });
    const out = [];
    for (let width = 320; width <= 1920; width += width < 700 ? 30 : 100) {
      await page.setViewportSize({ width, height: 800 });
      for (const view of ['as-pictures', 'as-list']) {
        await page.click(`label[for=${view}]`);
        if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) out.push(`${width} ${view}`);
      }
    }
    await page.setViewportSize(DESK.viewport);
    const found = { list: await judge(page) };
    await shoot(page, 'list');
    await page.click('label[for=as-pictures]');
    found.pictures = await judge(page);
    return { out, axe: found };
  });
  told.lightbox = await open(browser, DESK, async (page) => {
    await page.goto(asked.url, { waitUntil: 'load' });
    await page.waitForSelector('.pick', { state: 'attached' });
    await page.locator('.photos td > a').first().click();
    await page.waitForFunction(() => document.querySelector('dialog .large').naturalWidth > 1);
    await shoot(page, 'lightbox');
    const shown = await page.evaluate(() => {
      const image = document.querySelector('dialog .large');
      return { of: image.src, width: image.naturalWidth, height: image.naturalHeight };
    });
    const saved = async (work, count = 1) => {
      const names = [];
      const all = new Promise((done) => page.on('download', (one) => names.push(one.suggestedFilename()) >= count && done()));
      await work();
      await Promise.race([all, page.waitForTimeout(15_000)]);
      page.removeAllListeners('download');
      return names.sort();
    };
    const fromLightbox = await saved(() => page.evaluate(() => { const link = document.querySelector('dialog .caption a'); link.target = ''; link.click(); }));
    await page.keyboard.press('Escape');
    await page.locator('.photos tr').nth(1).hover();
    const fromCard = await saved(() => page.locator('.photos tr').nth(1).locator('.save').click());
    for (const nth of [0, 2, 3]) await page.locator('.photos tr').nth(nth).locator('.pick').check();
    const offered = await page.locator('.gather').textContent();
    await shoot(page, 'selection');
    const fromSelection = await saved(() => page.click('.gather'), 3);
    return { shown: { ...shown, of: name(shown.of) }, fromLightbox, fromCard, offered, fromSelection, left: await page.locator('.gather').isVisible() };
  });
  told.missing = await open(browser, DESK, async (page) => {
    await page.route(/-(640|2048)\.jpg/, (route) => route.abort());
    await page.goto(asked.url, { waitUntil: 'load' });
    await page.waitForFunction(() => { const image = document.querySelector('.photos img'); return image.complete && image.naturalWidth > 0; });
    const grid = await page.evaluate(() => document.querySelector('.photos img').src);
    await page.locator('.photos td > a').first().click();
    await page.waitForFunction(() => document.querySelector('dialog .large').naturalWidth > 1);
    const box = await page.evaluate(() => ({ of: document.querySelector('dialog .large').src, failed: !document.querySelector('dialog .failed').hidden }));
    return { grid: name(grid), box: name(box.of), failed: box.failed };
  });
  return told;
}

try {
  const seen = { alike: {} };
  await withBrowser(async (browser) => {
    const page = await browser.newPage();
    for (const pair of alike) seen.alike[pair.name] = await compare(page, pair);
    await page.close();
    if (asked) seen.page = await read(browser);
  });
  console.log(JSON.stringify(seen));
} catch (error) {
  console.error(`renditions: ${error.stack}`);
  process.exitCode = 70;
}
