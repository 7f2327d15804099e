// A certified OpenID provider on a free port of 127.0.0.1: npm's oidc-provider, with its own pages for login and consent.
//
//   node tests/browser/oidc_provider.mjs REDIRECT_URI ALGORITHM [SECRET]
//
// Prints `ready <port>`, and ends when its standard input is closed. The issuer is `http://localhost:<port>`, another site than 127.0.0.1 to a browser. The
// client is `handout`. Any login is accepted: it is the account's address, which is verified unless it begins with `unverified`.

import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { require } from './browser.mjs';

const [redirect, algorithm, secret] = process.argv.slice(2);
const beside = dirname(require.resolve('playwright-core/package.json'));
const entry = join(beside, '../oidc-provider/lib/index.js');
console.warn = console.info = () => {};
const { Provider } = await import(pathToFileURL(entry));

const kinds = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  PS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};
const jwk = kinds[algorithm]().privateKey.export({ format: 'jwk' });

const server = createServer((request, response) => callback(request, response));
let callback;
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const provider = new Provider(`http://localhost:${port}`, {
    clients: [
      {
        client_id: 'handout',
        client_secret: secret,
        token_endpoint_auth_method: secret ? 'client_secret_basic' : 'none',
        redirect_uris: [redirect],
        response_types: ['code'],
        grant_types: ['authorization_code'],
        id_token_signed_response_alg: algorithm,
      },
    ],
    enabledJWA: { idTokenSigningAlgValues: [algorithm] },
    jwks: { keys: [{ ...jwk, use: 'sig', kid: 'key-1', alg: algorithm }] },
    cookies: { keys: ['only for tests'] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'] },
    findAccount: (_, sub) => ({
      accountId: sub,
      claims: () => ({ sub, email: sub, email_verified: !sub.startsWith('unverified') }),
    }),
  });
  callback = provider.callback();
  console.log(`ready ${port}`);
});
process.stdin.resume().on('end', () => process.exit());
