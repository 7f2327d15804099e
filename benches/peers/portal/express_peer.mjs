// A portal as a web application in Node.js has it: Express, a look-up in SQLite, the presigner of the AWS SDK, a redirect.
//
//   node express_peer.mjs NODE_MODULES DATABASE LINKS
//
// Started by `cargo bench --bench portal`. Prints `ready <port>`, and ends when its standard input is closed. It spares itself what the portal does
// besides: it judges no end and no revocation, and records nothing.
//
//   /d/<token>   a redirect to a link that is signed now, or 404          /j/<token>   a page of 1,000 links, each signed now

import { createRequire } from 'node:module';

const [modules, database, links] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const express = require('express');
const Database = require('better-sqlite3');
const { S3Client, GetObjectCommand } = require('@aws-sdk/client-s3');
const { getSignedUrl } = require('@aws-sdk/s3-request-presigner');

const db = new Database(database);
db.pragma('journal_mode = WAL');
db.exec('CREATE TABLE links (token TEXT PRIMARY KEY, key TEXT NOT NULL) WITHOUT ROWID');
const insert = db.prepare('INSERT INTO links VALUES (?, ?)');
db.transaction(() => {
  for (let at = 0; at < +links; at += 1) {
    insert.run(`t${String(at).padStart(20, '0')}`, `exports/2026/${String(at).padStart(8, '0')}.pdf`);
  }
})();
const look = db.prepare('SELECT key FROM links WHERE token = ?');
const page = db.prepare('SELECT key FROM links WHERE token >= ? ORDER BY token LIMIT 1000');

const s3 = new S3Client({
  region: 'eu-west-1',
  endpoint: 'https://s3.eu-west-1.amazonaws.com',
  forcePathStyle: true,
  credentials: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' },
});
const sign = (Key) => getSignedUrl(s3, new GetObjectCommand({ Bucket: 'acme-reports', Key }), { expiresIn: 900 });

const app = express();
app.disable('x-powered-by');
app.get('/d/:token', async (request, response) => {
  const row = look.get(request.params.token);
  if (!row) return response.sendStatus(404);
  response.set('Cache-Control', 'no-store');
  return response.redirect(302, await sign(row.key));
});
app.get('/j/:token', async (request, response) => {
  const items = [];
  for (const { key } of page.all(request.params.token)) {
    items.push(`<li><a href="${(await sign(key)).replaceAll('&', '&amp;')}">${key}</a></li>`);
  }
  response.set('Cache-Control', 'no-store').send(`<!doctype html><html lang="en"><ul>${items.join('\n')}</ul></html>`);
});
const server = app.listen(0, '127.0.0.1', () => console.log(`ready ${server.address().port}`));
process.stdin.resume().on('end', () => process.exit());
