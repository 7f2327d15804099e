// What the scripts of this folder share: where playwright-core lives, and a chromium that talks to nobody of its own accord.

import { createRequire } from 'node:module';
import { mkdtempSync, readFileSync, rmSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const packages = process.env.TEST_NODE ?? join(root, '.test/node');

/** `require` of the packages that tests/setup.sh has installed. */
export const require = createRequire(join(resolve(packages), 'package.json'));

function executable() {
  const told = join(root, '.test/browser');
  return process.env.TEST_BROWSER ?? (existsSync(told) ? readFileSync(told, 'utf8').trim() : '/usr/bin/chromium');
}

/** A URL as given, or the file:// URL of a path. */
export function address(argument) {
  return /^[a-z][a-z0-9+.-]+:/i.test(argument) ? argument : pathToFileURL(resolve(argument)).href;
}

const launch = () => ({
  executablePath: executable(),
  headless: true,
  chromiumSandbox: false, // the tests run as root
  args: [
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--hide-scrollbars',
    '--force-color-profile=srgb',
  ],
});

/**
 * Takes a picture that is kept for people to look at, if SCREENSHOTS is set. Without a graphics card, pictures of whole pages take more time
 * than all that is judged about them.
 */
export async function picture(page, options) {
  if (process.env.SCREENSHOTS) await page.screenshot({ animations: 'disabled', ...options });
}

/** Opens a page with `options` of playwright's browser context, calls `work(page)`, and always cleans up. */
export async function withPage(options, work) {
  const { chromium } = require('playwright-core');
  const profile = mkdtempSync(join(tmpdir(), 'handout-browser-'));
  let context;
  try {
    context = await chromium.launchPersistentContext(profile, { ...launch(), ...options });
    return await work(context.pages()[0] ?? (await context.newPage()));
  } finally {
    await context?.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** Starts a browser for many pages, each with a profile of its own, calls `work(browser)`, and always cleans up. */
export async function withBrowser(work) {
  const { chromium } = require('playwright-core');
  const browser = await chromium.launch(launch());
  try {
    return await work(browser);
  } finally {
    await browser.close();
  }
}

/** Reads `--name value` and `--flag` after the positional arguments; exits 64 on anything else. */
export function parse(usage, positional, values, flags) {
  const found = { _: [] };
  const rest = process.argv.slice(2);
  while (rest.length) {
    const word = rest.shift();
    const name = word.replace(/^--/, '');
    if (!word.startsWith('--')) found._.push(word);
    else if (flags.includes(name)) found[name] = true;
    else if (values.includes(name) && rest.length) found[name] = rest.shift();
    else misuse(`unknown: ${word}`);
  }
  if (found._.length !== positional) misuse(`expected ${positional} arguments, got ${found._.length}`);
  return found;

  function misuse(why) {
    console.error(`${why}\nusage: ${usage}`);
    process.exit(64);
  }
}
