// What applications on Node see of each target, one a line: by the URL of the WHATWG, and as Express reads a request.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(process.env.MODULES);
const parseurl = createRequire(require.resolve('express'))('parseurl');
const Layer = require('express/lib/router/layer');

const HOST = 'events.example';

// Percent-decoding of the URL Standard, then UTF-8 as the Encoding Standard decodes it.
function decode(text) {
  const bytes = Buffer.from(text.replace(/%([0-9a-f]{2})/gi, (_, digits) => String.fromCharCode(parseInt(digits, 16))), 'latin1');
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
}

function whatwg(target) {
  const url = new URL(`http://${HOST}${target}`);
  const elsewhere = new URL(target, `http://${HOST}/`).host !== HOST || url.host !== HOST;
  return { path: decode(url.pathname), query: url.search.slice(1), elsewhere };
}

function express(target) {
  const { pathname, query } = parseurl({ url: target });
  const everything = new Layer('*', {}, () => {});
  try {
    everything.match(pathname);
  } catch {
    return null;
  }
  return { path: everything.params[0], query: query ?? '', elsewhere: pathname.startsWith('//') };
}

const answers = [];
for await (const target of createInterface({ input: process.stdin })) {
  answers.push(JSON.stringify({ 'WHATWG URL': whatwg(target), 'Node with Express': express(target) }));
}
process.stdout.write(answers.join('\n') + '\n');
