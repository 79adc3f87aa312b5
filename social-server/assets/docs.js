'use strict';
// The description of the API, drawn from /openapi.json. Everything is made as text nodes: nothing in the document can become markup.

// What people look for first comes first.
const FIRST = ['/post/schedule', '/post/validate', '/posts', '/deliveries', '/events', '/logs', '/auth/links', '/auth/connect', '/accounts', '/connections', '/platforms', '/media', '/users', '/keys'];
const METHODS = ['get', 'post', 'patch', 'delete'];

const PROBLEMS = [
  ['invalid', 422, 'Fields are wrong, or a network would refuse the post. violations says which and why.'],
  ['invalid_json', 400, 'The body is no JSON.'],
  ['payload_too_large', 413, 'A JSON body has more than 1 MiB.'],
  ['unsupported_media_type', 415, 'The body is not called JSON.'],
  ['request_timeout', 408, 'The body did not arrive in time.'],
  ['body_broken', 400, 'The body broke off before its end.'],
  ['form_invalid', 400, 'A form cannot be read.'],
  ['unauthorized', 401, 'There is no key, or no valid one.'],
  ['missing_scope', 403, 'The key may not do that.'],
  ['admin_key_needed', 403, 'Only the admin key may do that.'],
  ['user_key_needed', 403, 'The admin key belongs to no user: send the key of a user.'],
  ['https_required', 403, 'The request came unencrypted. If it carried a key, delete that key.'],
  ['not_found', 404, 'It is not there, or it is somebody else\u2019s, which looks the same.'],
  ['no_such_route', 404, 'There is no such route.'],
  ['method_not_allowed', 405, 'The route does not take this method.'],
  ['conflict', 409, 'Too late, or not in this state: the post has moved on.'],
  ['email_taken', 409, 'There is a user with this e-mail address.'],
  ['reconnect', 409, 'The network no longer accepts the connection: connect the account again.'],
  ['duplicate', 409, 'The network has this already.'],
  ['idempotency_running', 409, 'The first request with this Idempotency-Key is still being carried out.'],
  ['idempotency_mismatch', 422, 'This Idempotency-Key was used for another request.'],
  ['idempotency_key_invalid', 400, 'An Idempotency-Key has 1 to 255 visible ASCII characters.'],
  ['link_missing', 400, 'The address to connect has no link in it.'],
  ['link_expired', 410, 'The link to connect was used or is too old.'],
  ['expired', 400, 'A connection attempt is not valid: other browser, used, too old, other network.'],
  ['access_denied', 403, 'The person said no at the network.'],
  ['no_accounts', 403, 'The login reaches no account that may post.'],
  ['scope_not_allowed', 422, 'The network does not let this app ask for these permissions.'],
  ['network', 502, 'The network did not go on with the connection.'],
  ['media_too_large', 413, 'The file is larger than this server takes.'],
  ['media_quota', 413, 'The files of this user take more room than they may.'],
  ['range_not_satisfiable', 416, 'The file has no such range.'],
  ['storage_full', 507, 'The disk for files is full.'],
  ['too_many_requests', 429, 'More requests than are allowed: wait for retry_after.'],
  ['too_many_listeners', 429, 'This user follows events too often at once.'],
  ['rate_limited', 429, 'The network asks for a pause.'],
  ['quota', 429, 'A limit of the network is used up for now.'],
  ['rejected', 422, 'The network refused.'],
  ['unsupported', 422, 'The network cannot do that.'],
  ['permission', 403, 'The account may not do that on its network.'],
  ['config', 500, 'This installation is not set up for that: tell whoever runs it.'],
  ['billing', 503, 'The network wants its bill paid.'],
  ['unavailable', 503, 'The network does not answer properly.'],
  ['storage', 503, 'The database does not answer.'],
  ['not_ready', 503, 'The server cannot serve requests now. It recovers by itself.'],
  ['timeout', 504, 'It took too long. Look whether it has happened before you try again.'],
  ['unexpected', 502, 'The network gave an answer that nobody foresaw.'],
  ['internal', 500, 'The server failed: tell whoever runs it, with request_id.'],
];

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === 'class') element.className = value;
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children.flat()) {
    if (child != null) element.append(child);
  }
  return element;
}

// Text in which `words` stand for code.
function prose(text) {
  return (text || '').split('`').map((piece, index) => (index % 2 ? make('code', {}, piece) : piece));
}

let document_ = null;

function resolve(schema) {
  if (schema && schema.$ref) return resolve(document_.components.schemas[schema.$ref.split('/').pop()]);
  return schema || {};
}

// A schema without null among its choices.
function plain(schema) {
  const found = resolve(schema);
  if (found.oneOf) {
    const real = found.oneOf.filter((one) => one.type !== 'null');
    if (real.length === 1) return { ...plain(real[0]), description: real[0].description || plain(real[0]).description };
  }
  if (found.allOf) {
    const parts = found.allOf.map(resolve);
    return {
      type: 'object',
      description: found.description,
      properties: Object.assign({}, ...parts.map((part) => part.properties || {})),
      required: parts.flatMap((part) => part.required || []),
    };
  }
  return found;
}

function typeName(schema) {
  const found = plain(schema);
  const types = [].concat(found.type || []).filter((type) => type !== 'null');
  if (found.oneOf) return found.oneOf.map(typeName).join(' or ');
  if (found.enum) return found.enum.join(' | ');
  if (types.includes('array')) return `${typeName(found.items)}[]`;
  if (found.additionalProperties && found.additionalProperties !== true) return `map of ${typeName(found.additionalProperties)}`;
  return found.format ? `${types.join('|')}, ${found.format}` : types.join('|') || 'any';
}

function inner(schema) {
  const found = plain(schema);
  if (found.properties) return found;
  if (found.items) return inner(found.items);
  if (found.additionalProperties && found.additionalProperties !== true) return inner(found.additionalProperties);
  if (found.oneOf) return found.oneOf.map(inner).find((one) => one) || null;
  return null;
}

function fields(schema, depth) {
  const found = inner(schema);
  if (!found) return null;
  const required = new Set(found.required || []);
  const names = Object.keys(found.properties).sort((a, b) => required.has(b) - required.has(a));
  return make('ul', { class: 'fields' }, names.map((name) => {
    const property = found.properties[name];
    const below = depth < 4 ? fields(property, depth + 1) : null;
    const text = property.description || plain(property).description;
    return make('li', {},
      make('span', { class: 'name' }, name),
      make('span', { class: 'type' }, typeName(property)),
      required.has(name) ? make('span', { class: 'must' }, 'always') : null,
      text ? make('p', {}, prose(text)) : null,
      below ? make('details', { class: 'more' }, make('summary', {}, 'its fields'), below) : null);
  }));
}

function example(schema, depth) {
  const found = plain(schema);
  if (found.example !== undefined) return found.example;
  const types = [].concat(found.type || []);
  if (found.enum) return found.enum[0];
  if (found.oneOf) return example(found.oneOf[0], depth);
  if (types.includes('array')) return depth > 2 ? [] : [example(found.items, depth + 1)];
  if (found.properties) {
    const required = new Set(found.required || []);
    return Object.fromEntries(Object.entries(found.properties).filter(([name]) => required.has(name)).map(([name, one]) => [name, example(one, depth + 1)]));
  }
  if (types.includes('integer')) return 0;
  if (types.includes('boolean')) return false;
  return types.includes('object') ? {} : '';
}

const STARTS = {
  'post /post/schedule': { content: 'Hello', platforms: ['x'], local_time: '2027-01-01T09:00', time_zone: 'Europe/Berlin' },
  'post /post/validate': { content: 'Hello', platforms: ['x'] },
  'post /auth/links': { platform: 'x', return_to: '/docs' },
  'post /users': { email: 'ada@example.com' },
  'patch /posts/{id}': { content: 'Something else' },
  'post /deliveries/{id}/resolve': { outcome: 'not_published', then: 'resend' },
};

function parametersOf(operation) {
  return (operation.parameters || []).filter((one) => one.name !== 'Idempotency-Key');
}

function tryIt(method, path, operation) {
  const inputs = new Map();
  const box = make('div', { class: 'try' }, make('h4', {}, 'Try it'));
  for (const parameter of parametersOf(operation)) {
    const input = make('input', { placeholder: typeName(parameter.schema), 'aria-label': parameter.name, spellcheck: 'false' });
    inputs.set(parameter, input);
    box.append(make('label', {}, `${parameter.name} (${parameter.in})`, input));
  }
  const content = operation.requestBody && operation.requestBody.content;
  let body = null;
  let file = null;
  if (content && content['application/json']) {
    const start = STARTS[`${method} ${path}`] || example(content['application/json'].schema, 0);
    body = make('textarea', { spellcheck: 'false', 'aria-label': 'body' });
    body.value = JSON.stringify(start, null, 2);
    box.append(body);
  } else if (content) {
    file = make('input', { type: 'file', 'aria-label': 'file' });
    box.append(make('label', {}, 'file', file));
  }
  const answer = make('div', {});
  const button = make('button', { class: 'go', type: 'button' }, 'Send');
  const stop = make('button', { type: 'button', class: 'hidden' }, 'Stop');
  let running = null;
  stop.addEventListener('click', () => running && running.abort());
  button.addEventListener('click', async () => {
    button.disabled = true;
    running = new AbortController();
    try {
      await send(method, path, inputs, body, file, answer, stop, running);
    } catch (error) {
      if (error.name !== 'AbortError') answer.append(make('p', { class: 'answer no' }, String(error.message || error)));
    }
    stop.classList.add('hidden');
    button.disabled = false;
  });
  box.append(make('div', { class: 'row' }, button, stop), answer);
  return box;
}

async function send(method, path, inputs, body, file, answer, stop, running) {
  let target = path;
  const query = new URLSearchParams();
  const headers = {};
  for (const [parameter, input] of inputs) {
    const value = input.value.trim();
    if (parameter.in === 'path') target = target.replace(`{${parameter.name}}`, encodeURIComponent(value || '-'));
    else if (value && parameter.in === 'query') query.set(parameter.name, value);
    else if (value) headers[parameter.name] = value;
  }
  if ([...query].length) target += `?${query}`;
  const key = document.getElementById('key').value.trim();
  if (key) headers.Authorization = `Bearer ${key}`;
  const options = { method: method.toUpperCase(), headers, signal: running.signal, redirect: 'manual' };
  if (method !== 'get') headers['Idempotency-Key'] = crypto.randomUUID ? crypto.randomUUID() : String(Math.random());
  if (body) {
    headers['Content-Type'] = 'application/json';
    options.body = body.value;
  } else if (file && file.files[0]) {
    headers['Content-Type'] = file.files[0].type || 'application/octet-stream';
    options.body = file.files[0];
  }
  answer.replaceChildren(make('pre', {}, curl(method, target, headers, body, file)));
  const started = performance.now();
  const response = await fetch(target, options);
  if (response.type === 'opaqueredirect') {
    answer.append(make('p', { class: 'answer ok' }, 'It sends the browser elsewhere. Open the address in a tab of its own.'));
    return;
  }
  const line = make('p', { class: `answer ${response.ok ? 'ok' : 'no'}` }, `${response.status} ${response.statusText}, ${Math.round(performance.now() - started)} ms`);
  const out = make('pre', {}, '');
  answer.append(line, out);
  const kind = response.headers.get('content-type') || '';
  if (kind.startsWith('text/event-stream')) {
    stop.classList.remove('hidden');
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      out.append(value);
      out.scrollTop = out.scrollHeight;
    }
  }
  const text = await response.text();
  try {
    out.textContent = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    out.textContent = text || '(no body)';
  }
}

function curl(method, target, headers, body, file) {
  const quote = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
  const parts = [`curl -X ${method.toUpperCase()} ${quote(location.origin + target)}`];
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quote(`${name}: ${name === 'Authorization' ? 'Bearer $KEY' : value}`).replace('$KEY', `'"$KEY"'`)}`);
  if (body) parts.push(`-d ${quote(body.value)}`);
  else if (file && file.files[0]) parts.push(`--data-binary @${quote(file.files[0].name)}`);
  return parts.join(' \\\n  ');
}

function call(method, path, operation) {
  const summary = operation.summary || '';
  const keys = (operation.security || []).flatMap((one) => Object.keys(one));
  const lock = keys.length ? (keys.includes('key') ? 'key' : 'admin key') : 'open';
  const left = make('div', {});
  const parameters = parametersOf(operation);
  if (parameters.length) {
    left.append(make('h4', {}, 'Parameters'), make('ul', { class: 'fields' }, parameters.map((one) => make('li', {},
      make('span', { class: 'name' }, one.name), make('span', { class: 'type' }, `${typeName(one.schema)}, in ${one.in}`),
      one.required ? make('span', { class: 'must' }, 'always') : null,
      make('p', {}, prose(one.description))))));
  }
  const content = operation.requestBody && operation.requestBody.content;
  if (content) {
    const json = content['application/json'];
    left.append(make('h4', {}, json ? 'Body' : `Body: ${Object.keys(content).join(' or ')}`));
    if (json) left.append(fields(json.schema, 0) || '');
  }
  left.append(make('h4', {}, 'Answers'));
  for (const [status, response] of Object.entries(operation.responses)) {
    const [kind, media] = Object.entries(response.content || {})[0] || [null, null];
    const below = media && status !== 'default' && !kind.startsWith('application/problem') ? fields(media.schema, 0) : null;
    left.append(make('div', {},
      make('span', { class: 'status' }, status === 'default' ? 'else' : status), ...prose(response.description),
      below ? make('details', { class: 'more', open: status.startsWith('2') && method !== 'get' ? null : false }, make('summary', {}, 'its fields'), below) : null));
  }
  const details = make('details', { class: 'call', id: operation.operationId },
    make('summary', {},
      make('span', { class: `method ${method}` }, method), make('span', { class: 'path' }, path),
      make('span', { class: 'sum' }, ...prose(summary)), make('span', { class: 'lock' }, lock)));
  // Drawn when it is opened for the first time.
  details.addEventListener('toggle', () => {
    if (details.open && details.children.length === 1) {
      const text = [operation.summary, operation.description].filter(Boolean).join(' ');
      details.append(make('div', { class: 'body' }, make('p', {}, prose(text)), make('div', { class: 'cols' }, left, tryIt(method, path, operation))));
    }
  });
  return details;
}

function draw() {
  const nav = document.getElementById('nav');
  const calls = document.getElementById('calls');
  calls.replaceChildren();
  for (const tag of document_.tags || []) {
    const own = [];
    for (const [path, item] of Object.entries(document_.paths)) {
      for (const method of METHODS) {
        if (item[method] && (item[method].tags || []).includes(tag.name)) own.push([method, path, item[method]]);
      }
    }
    if (!own.length) continue;
    const place = ([method, path]) => (FIRST.findIndex((start) => path.startsWith(start)) + 1 || 99) * 10 + METHODS.indexOf(method);
    own.sort((a, b) => place(a) - place(b));
    nav.append(make('h3', {}, tag.name));
    calls.append(make('h2', { id: `tag-${tag.name}` }, tag.name), make('p', { class: 'lead' }, tag.description || ''));
    for (const [method, path, operation] of own) {
      nav.append(make('a', { href: `#${operation.operationId}`, 'data-words': `${method} ${path} ${operation.summary || ''}`.toLowerCase() },
        make('span', { class: `method ${method}` }, method), path));
      const section = call(method, path, operation);
      section.dataset.words = `${method} ${path} ${operation.summary || ''}`.toLowerCase();
      calls.append(section);
    }
  }
  nav.append(make('h3', {}, 'more'), make('a', { href: '#errors' }, 'Refusals'));
  const table = document.getElementById('problems');
  for (const [code, status, text] of PROBLEMS) {
    table.append(make('tr', { id: `problem-${code}` }, make('td', {}, make('code', {}, code)), make('td', {}, String(status)), make('td', {}, text)));
  }
  open();
}

// Opens the call that the address names.
function open() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.matches('details')) target.open = true;
  if (target) target.scrollIntoView();
}

function find(event) {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const element of document.querySelectorAll('[data-words]')) {
    element.classList.toggle('hidden', !words.every((word) => element.dataset.words.includes(word)));
  }
}

async function begin() {
  document.getElementById('find').addEventListener('input', find);
  window.addEventListener('hashchange', open);
  try {
    document_ = await (await fetch('/openapi.json')).json();
    draw();
  } catch (error) {
    document.getElementById('calls').replaceChildren(make('p', { class: 'answer no' }, `The description cannot be loaded: ${error.message}`));
  }
}

begin();
