/* The dashboard. It asks /v1/status and /v1/pulse every second, hears of changes over /v1/events, and reads and
 * writes keys as every client does. What comes from the cluster becomes text (textContent), never markup.
 *
 * A key is kept as it stands in an address, percent-encoded: a name need not be UTF-8. */
'use strict';

/* ---- small things ---- */

const $ = id => document.getElementById(id);

function el(tag, props, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(props || {}))
        if (name === 'text') node.textContent = value;
        else if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
        else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? '' : value);
    node.append(...children.filter(child => child !== null && child !== undefined));
    return node;
}

/* Touches the page only if something is different. */
function put(node, text) {
    if (node.textContent !== text) node.textContent = text;
}

function mark(node, name, value) {
    if (value === null) node.removeAttribute(name);
    else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

const svg = (tag, attributes) => {
    const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
};

/* Control characters, and those that turn the direction of text, are shown as what they are. */
const visible = text => text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    c => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));

function decoded(key) {
    try {
        return visible(decodeURIComponent(key));
    } catch {
        return key;
    }
}

/* As the node has written a name: NAME, or NAME_base64 of what is no UTF-8. */
function encodedOf(object, name) {
    const encode = c => '%' + c.toString(16).padStart(2, '0');
    if (typeof object[name] === 'string')
        return object[name].split('/').map(encodeURIComponent).join('/');
    if (typeof object[name + '_base64'] === 'string')
        return [...atob(object[name + '_base64'])].map(c => c === '/' ? c : encode(c.charCodeAt(0))).join('');
    return '';
}

const parentOf = key => key.slice(0, key.lastIndexOf('/', key.length - 2) + 1);
const lastOf = key => key.slice(parentOf(key).length);
const encodeKey = text => text.split('/').map(encodeURIComponent).join('/');

function size(n) {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    let i = 0;
    for (; n >= 1024 && i < 4; i++) n /= 1024;
    return (i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + '\u00a0' + units[i];
}

const number = n => Number(n).toLocaleString('en');

function micros(us) {
    if (!us) return '–';
    return us < 1000 ? us + '\u00a0µs' : us < 100000 ? (us / 1000).toFixed(us < 10000 ? 1 : 0) + '\u00a0ms' : (us / 1e6).toFixed(2) + '\u00a0s';
}

function span(ms) {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 60) return s + '\u00a0s';
    if (s < 3600) return Math.floor(s / 60) + '\u00a0min';
    if (s < 86400) return Math.floor(s / 3600) + '\u00a0h ' + Math.floor(s % 3600 / 60) + '\u00a0min';
    return Math.floor(s / 86400) + '\u00a0d ' + Math.floor(s % 86400 / 3600) + '\u00a0h';
}

const seconds = ms => ms < 9950 ? (ms / 1000).toFixed(1) + '\u00a0s' : span(ms);
const clockOf = date => new Date(date).toLocaleTimeString('en-GB');
const whenOf = date => new Date(date).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
/* The node's clock less the browser's. */
let skew = 0;
const now = () => Date.now() + skew;
const ago = date => {
    const ms = now() - new Date(date);
    return ms < 5000 ? 'just now' : span(ms) + ' ago';
};
const authorOf = row => (row.author_uid === 0 ? 'root' : row.author_uid === 4294967295 ? 'node' : row.author_uid) + '@' + visible(row.author_node) + (row.label ? '(' + visible(row.label) + ')' : '');

function list(names, and) {
    return names.length < 2 ? names.join('') : names.slice(0, -1).join(', ') + ' ' + and + ' ' + names[names.length - 1];
}

async function ask(address, options) {
    const answer = await fetch(address, { signal: AbortSignal.timeout(2500), cache: 'no-store', ...options });
    if (answer.ok) return answer;
    const error = new Error(answer.status + ' ' + answer.statusText);
    error.status = answer.status;
    error.answer = answer;
    try {
        error.message = (await answer.clone().json()).error || error.message;
    } catch { /* not ours */ }
    throw error;
}

const askJson = async (address, options) => (await ask(address, options)).json();

/* ---- what the cluster says ---- */

let status = null, statusAt = 0;
const samples = [];
let nextSample = 0;

/* Which nodes may fail, in words: [level, headline, detail]. */
function verdict(s) {
    const voters = s.members.filter(m => m.voter), good = voters.filter(m => m.usable), bad = voters.filter(m => !m.usable);
    const majority = Math.floor(voters.length / 2) + 1, names = all => list(all.map(m => m.name), 'and');
    const troubles = bad.map(m => m.name + ' is ' + m.state).join(', ');
    if (s.no_service) return ['bad', 'This node serves nobody.', s.no_service];
    if (!s.quorum) {
        const why = good.length < majority ? troubles + '. Writes need ' + majority + ' of ' + voters.length + ' nodes.'
            : s.leader ? s.leader + ' leads, and is not ready yet.' : 'The nodes are choosing a leader.' + (troubles ? ' ' + troubles + '.' : '');
        return ['bad', 'No writes are accepted.', why];
    }
    if (voters.length === 1) return ['good', 'This node must not fail.', 'It is the only one. Values are safe on its disk; with three nodes any one could fail.'];
    if (s.failures_tolerated > 0) {
        const n = s.failures_tolerated === 1 ? 'one node' : ['', '', 'two', 'three'][s.failures_tolerated] + ' nodes';
        const words = bad.length > 0 ? ' is still allowed to fail' : ' may fail';
        return [bad.length > 0 ? 'warn' : 'good', 'Any ' + n + (s.failures_tolerated > 1 ? words.replace('is', 'are') : words) + '.',
            (bad.length > 0 ? troubles + '. ' : '') + 'Writes go on as long as ' + majority + ' of ' + names(good) + ' are up.'];
    }
    return ['warn', 'No further node may fail.', (troubles ? troubles + '. ' : '') + 'Writes need ' + (good.length === majority ? names(good) + '.' : 'all links between ' + names(good) + '.')];
}

function facts(node, pairs) {
    while (node.children.length < pairs.length) node.append(el('div', {}, el('dt'), el('dd')));
    pairs.forEach(([name, value], i) => {
        put(node.children[i].firstChild, name);
        put(node.children[i].lastChild, value);
    });
}

function showSummary(s) {
    const [level, headline, detail] = verdict(s);
    mark($('summary'), 'data-level', level);
    put($('headline'), headline);
    put($('detail'), detail);
    put($('served'), s.node);
    document.title = (level === 'good' ? '' : '! ') + s.node + ' – kvfs';
    facts($('facts'), [['Leader', s.leader || 'none'], ['Term', number(s.term)], ['Revision', s.revision], ['Keys', number(s.keys)],
        ['Data', size(s.bytes)], ['In memory', size(s.memory_bytes)]]);
    facts($('watches'), [['Watchers', number(s.subscribers)], ['Clients', number(s.clients)], ['Sessions', number(s.sessions)]]);
    const warnings = $('warnings');
    if (warnings.dataset.of !== JSON.stringify(s.warnings)) {
        warnings.dataset.of = JSON.stringify(s.warnings);
        warnings.replaceChildren(...s.warnings.map(text => el('li', { text })));
    }
}

const cards = new Map();

function makeCard() {
    const c = { name: el('h3'), role: el('span', { class: 'chip' }), state: el('span', { class: 'state' }),
        lag: el('dd'), up: el('dd'), disk: el('dd'), memory: el('dd'), fill: el('i'), bar: null, address: el('span'), version: el('span') };
    c.bar = el('span', { class: 'bar', 'aria-hidden': 'true' }, c.fill);
    c.node = el('li', { class: 'card node' }, el('div', { class: 'node-head' }, c.name, c.role, c.state),
        el('dl', {}, el('dt', { text: 'Lag' }), c.lag, el('dt', { text: 'Up' }), c.up, el('dt', { text: 'Memory' }), c.memory, el('dt', { text: 'Disk' }), c.disk),
        c.bar, el('div', { class: 'node-foot' }, c.address, c.version));
    return c;
}

function showNodes(s) {
    if (cards.size === 0) $('node-list').replaceChildren();
    for (const m of s.members) {
        if (!cards.has(m.id)) {
            cards.set(m.id, makeCard());
            $('node-list').append(cards.get(m.id).node);
        }
        const c = cards.get(m.id), heard = m.role !== '-', used = m.disk_total ? 1 - m.disk_free / m.disk_total : 0;
        mark(c.node, 'data-level', m.usable ? (m.state === 'healthy' ? 'good' : 'warn') : m.state === 'behind' ? 'warn' : 'bad');
        mark(c.node, 'data-node', m.name);
        put(c.name, m.name);
        put(c.role, !heard ? 'not heard' : m.role === 'leader' ? 'Leader' : m.role === 'candidate' ? 'Candidate' : m.voter ? 'Follower' : 'No voter');
        mark(c.role, 'class', m.role === 'leader' ? 'chip leader' : 'chip');
        put(c.state, m.state);
        put(c.lag, !heard ? (m.last_seen_ms === null ? 'never seen' : 'last seen ' + span(m.last_seen_ms) + ' ago')
            : m.behind === 0 ? 'none' : number(m.behind) + (m.behind === 1 ? ' command' : ' commands') + (m.lag_ms >= 1000 ? ', ' + span(m.lag_ms) : ''));
        put(c.up, heard && m.uptime_ms !== undefined ? span(m.uptime_ms) : '–');
        put(c.memory, m.rss_bytes ? size(m.rss_bytes) : '–');
        put(c.disk, m.disk_total ? size(m.disk_free) + ' free of ' + size(m.disk_total) : '–');
        c.fill.style.width = (100 * used).toFixed(1) + '%';
        mark(c.bar, 'data-level', used > 0.9 ? 'warn' : 'good');
        put(c.address, m.error && !heard ? m.error : m.address + (m.name === s.node ? ' · this page' : ''));
        c.address.title = m.error || '';
        put(c.version, m.version ? 'version ' + m.version : '');
    }
    for (const [id, c] of cards)
        if (!s.members.some(m => m.id === id)) {
            c.node.remove();
            cards.delete(id);
        }
}

/* ---- lines ---- */

const SAMPLES = 300; // shown at most
let shown = 60;

/* values: oldest first, null: none known. The path, and a closed one below it. */
function paths(values, top) {
    let line = '', area = '', open = false, from = 0;
    const x = i => (300 - (values.length - 1 - i) * 300 / (shown - 1)).toFixed(1), y = v => (55 - 53 * Math.min(v, top) / top).toFixed(1);
    values.forEach((v, i) => {
        if (v !== null) {
            line += open ? 'L' + x(i) + ' ' + y(v) : 'M' + x(i) + ' ' + y(v) + 'h.01'; // a point alone is seen, too
            if (!open) from = i;
        }
        if (open && (v === null || i === values.length - 1))
            area += line.slice(line.lastIndexOf('M')) + 'L' + x(v === null ? i - 1 : i) + ' 55L' + x(from) + ' 55Z';
        open = v !== null;
    });
    return [line, area];
}

function draw(node, lines, top) {
    if (node.children.length === 0)
        node.append(svg('path', { class: 'base', d: 'M0 55.5H300' }), svg('path', { class: 'area' }), svg('path', { class: 'line upper' }), svg('path', { class: 'line' }));
    const [area, upper, line] = [...node.children].slice(1), first = paths(lines[0], top);
    line.setAttribute('d', first[0]);
    area.setAttribute('d', first[1]);
    upper.setAttribute('d', lines[1] ? paths(lines[1], top)[0] : '');
}

/* A number of which the eye knows the size: 1, 2 or 5 and zeros. */
function round(n, least) {
    for (let step = least; ; step *= 10)
        for (const k of [1, 2, 5])
            if (n <= step * k) return step * k;
}

function showPulse(p) {
    if (p.next < nextSample) samples.length = 0; // the node was started anew
    samples.push(...p.samples);
    samples.splice(0, samples.length - SAMPLES);
    shown = [60, 120, SAMPLES].find(n => samples.length <= n);
    for (const from of document.querySelectorAll('.axis-from')) put(from, shown / 60 + ' min ago');
    nextSample = p.next;
    skew = p.unix_ms - Date.now();
    const last = samples[samples.length - 1] || [0, 0, 0], known = samples.filter(s => s[1] > 0), recent = known[known.length - 1] || last;
    const top = round(Math.max(...samples.map(s => s[0]), 0), 10), slow = round(Math.max(...samples.map(s => s[2]), 0), 1000);
    put($('rate'), number(last[0]));
    put($('p50'), micros(recent[1]));
    put($('p99'), micros(recent[2]));
    put($('rate-peak'), 'scale 0 to ' + number(top));
    put($('time-peak'), 'scale 0 to ' + micros(slow));
    draw($('rate-line'), [samples.map(s => s[0])], top);
    draw($('time-line'), [samples.map(s => s[1] || null), samples.map(s => s[2] || null)], slow);
    mark($('rate-line'), 'aria-label', 'Writes per second: ' + last[0] + ' now, ' + Math.max(...samples.map(s => s[0]), 0) + ' at most in the last ' + shown + ' seconds');
    mark($('time-line'), 'aria-label', 'Time to commit: half within ' + micros(recent[1]) + ', 99 of 100 within ' + micros(recent[2]));
    showLeaders(p);
}

const hues = new Map();
const hueOf = name => {
    if (!hues.has(name)) hues.set(name, hues.size % 7);
    return hues.get(name);
};

function showLeaders(p) {
    const all = p.leaders, last = all[all.length - 1], width = [2, 10, 60, 360, 1440, 10080].map(m => m * 60000);
    for (const name of ((status || {}).members || []).map(m => m.name)) hueOf(name);
    put($('leader'), p.without_leader_ms > 0 ? 'none' : last ? last.leader : '–');
    put($('leader-since'), p.without_leader_ms > 0 ? 'for ' + seconds(p.without_leader_ms) : last ? 'since ' + clockOf(last.unix_ms) : '');
    const age = all.length === 0 ? 0 : all.length > 1 ? p.unix_ms - all[Math.max(0, all.length - 4)].unix_ms : Math.min(p.unix_ms - all[0].unix_ms, width[1]);
    const window = width.find(w => age <= w) || width[5], from = p.unix_ms - window;
    put($('track-from'), span(window) + ' ago');
    const pieces = [];
    const piece = (name, start, end, gap) => {
        start = Math.max(start, from);
        if (end <= start) return;
        const node = el('span', { class: gap ? 'gap' : '', 'data-hue': gap ? undefined : hueOf(name) % 7, text: gap ? '' : name, title: gap ? 'no leader' : name });
        node.style.left = 100 * (start - from) / window + '%';
        node.style.width = 100 * (end - start) / window + '%';
        pieces.push(node);
    };
    all.forEach((l, i) => {
        const next = all[i + 1], end = next ? next.unix_ms - next.without_ms : p.unix_ms - p.without_leader_ms;
        piece(l.leader, l.unix_ms, end, false);
    });
    all.forEach((l, i) => i > 0 && l.without_ms > 0 && piece('', l.unix_ms - l.without_ms, l.unix_ms, true));
    if (p.without_leader_ms > 0) piece('', p.unix_ms - p.without_leader_ms, p.unix_ms, true);
    $('track').replaceChildren(...pieces);
    mark($('track'), 'aria-label', 'Leaders: ' + all.map(l => l.leader + ' from ' + clockOf(l.unix_ms)).join(', '));
    const key = JSON.stringify(all.slice(-3));
    if ($('changes').dataset.of === key) return;
    $('changes').dataset.of = key;
    $('changes').replaceChildren(...all.slice(-2).reverse().map((l, i) => el('li', {}, el('span', { text: clockOf(l.unix_ms) }),
        el('span', {}, el('b', { text: l.leader }), ' leads in term ' + l.term + (all.length - i > 1 && l.without_ms ? ', after ' + seconds(l.without_ms) + ' without' : '')))));
}

/* ---- is the node there ---- */

function online(s, p) {
    const first = status === null;
    status = s;
    statusAt = Date.now();
    showSummary(s);
    showNodes(s);
    showPulse(p);
    delete document.body.dataset.offline;
    $('banner').hidden = true;
    if (first) begin();
    else if (!events && begun) listen();
    again();
}

/* What could not be read is asked for once more when the node answers. */
const failed = { dir: false, key: false, versions: false };
const passes = error => !error.status || error.status >= 500; // and is not the key's fault

function again() {
    const { dir: list, key: value, versions } = failed;
    failed.dir = failed.key = failed.versions = false;
    if (list && dir !== null) loadDirectory(false);
    if (value && key !== null && mode === 'value') openKey(key);
    else if (versions && entry) loadVersions(false);
}

/* Where the others serve HTTP, if that can be reached from here: an address of loopback is one of this machine. */
function others() {
    const local = host => /^(localhost|127\.|\[::1\])/.test(host);
    return (status ? status.members : []).filter(m => m.name !== status.node && m.http && m.role !== '-' && (!local(m.http) || (local(m.address) && local(location.host))));
}

function offline() {
    if (status === null) {
        put($('banner-text'), 'The node does not answer. Trying again…');
    } else {
        document.body.dataset.offline = '';
        put($('banner-text'), status.node + ' does not answer' + '; what is shown is ' + span(Date.now() - statusAt) + ' old. Trying again…');
    }
    const known = others(), key = JSON.stringify(known.map(m => m.http));
    if ($('banner-others').dataset.of !== key) {
        $('banner-others').dataset.of = key;
        $('banner-others').replaceChildren(...(known.length > 0 ? [el('span', { text: 'Go on at' }), ...known.map(m => el('a', { href: 'http://' + m.http + '/dashboard' + location.hash, text: m.name }))] : []));
    }
    $('banner').hidden = false;
    pill();
}

function pill() {
    const state = !$('banner').hidden ? 'off' : events && events.readyState === EventSource.OPEN ? 'on' : 'wait';
    mark($('live'), 'data-state', state);
    put($('live').lastElementChild, { on: 'live', off: 'not reached', wait: 'connecting' }[state]);
}

async function beat() {
    try {
        const [s, p] = await Promise.all([askJson('/v1/status'), askJson('/v1/pulse?since=' + nextSample)]);
        online(s, p);
    } catch (error) {
        if (!(error instanceof TypeError || error.name === 'TimeoutError' || error.status)) console.error(error);
        offline();
    }
    pill();
    setTimeout(beat, document.hidden ? 5000 : 1000);
}

/* ---- operations, as they happen ---- */

const OPERATIONS = 60;
let events = null, lastId = null, eventsRetry = 1000;
let fresh = [], drawing = false;

const ENOUGH = 20, LOG_PAGES = 6;
let begun = false;
const placeOf = token => Number(String(token).slice(String(token).lastIndexOf('-') + 1));

/* The rows of the log after one revision up to another, the newest of them; null: there are too many. */
async function logOf(after, until) {
    let rows = [], next = '';
    for (let page = 0; page < LOG_PAGES; page++) {
        const answer = await askJson('/v1/log?limit=300&since=0-' + after + (next ? '&after=' + encodeURIComponent(next) : ''));
        rows = rows.concat(answer.operations).slice(-2 * OPERATIONS);
        if (!answer.more) return rows.filter(row => placeOf(row.revision) <= until).slice(-OPERATIONS);
        next = answer.next;
    }
    return null;
}

/* What was written lately, from the log, looking twice as far back until that is enough; then what is written from there on. */
async function begin() {
    const until = status.applied;
    let rows = [];
    try {
        for (let span = 150; ; span *= 2) {
            const more = await logOf(Math.max(0, until - span), until);
            if (more) rows = more;
            if (!more || more.length >= ENOUGH || span >= until) break;
        }
    } catch { /* the stream shows what comes */ }
    for (const row of rows) row.key_at = encodedOf(row, 'key');
    fresh = rows;
    drawOperations();
    lastId = '0-' + until;
    begun = true;
    listen();
}

function listen() {
    if (events && events.readyState !== EventSource.CLOSED) return;
    events = new EventSource('/v1/events?since=' + lastId);
    events.onopen = () => { eventsRetry = 1000; pill(); };
    events.onerror = () => {
        pill();
        if (events.readyState === EventSource.CLOSED) { // a refusal: it does not come again by itself
            events = null;
            setTimeout(() => { if (!events && status) listen(); }, eventsRetry);
            eventsRetry = Math.min(2 * eventsRetry, 15000);
        }
    };
    events.addEventListener('change', e => {
        if (e.lastEventId) lastId = e.lastEventId;
        heard(JSON.parse(e.data));
    });
    events.addEventListener('reset', reloadSoon);
}

function heard(row) {
    row.key_at = encodedOf(row, 'key');
    fresh.push(row);
    if (fresh.length > OPERATIONS) fresh.shift();
    touched(row.key_at, row);
    if (row.from || row.from_base64) touched(encodedOf(row, 'from'), row);
    if (!drawing) {
        drawing = true;
        setTimeout(() => requestAnimationFrame(drawOperations), 100);
    }
}

function drawOperations() {
    const box = $('operations-scroll');
    drawing = false;
    /* Nothing moves under who points at it. */
    if (fresh.length > 0 && $('operation-list').children.length > 0 && (box.matches(':hover') || box.contains(document.activeElement))) {
        put($('held'), fresh.length + (fresh.length === OPERATIONS ? ' or more' : '') + ' new, shown when you look away');
        return;
    }
    put($('held'), '');
    $('operation-list').prepend(...fresh.reverse().map(row => {
        const from = row.from || row.from_base64 ? decoded(encodedOf(row, 'from')) + ' → ' : '';
        return el('li', {}, el('time', { datetime: row.time, title: whenOf(row.time), text: clockOf(row.time) }),
            el('span', { class: 'what', text: row.operation }),
            row.type === 'file' ? el('a', { href: '#/' + row.key_at, text: from + decoded(row.key_at), title: decoded(row.key_at) })
                : el('span', { class: 'key', text: from + decoded(row.key_at) }),
            el('span', { class: 'by', text: authorOf(row), title: authorOf(row) }));
    }));
    fresh = [];
    while ($('operation-list').children.length > OPERATIONS) $('operation-list').lastChild.remove();
    $('operations-empty').hidden = $('operation-list').children.length > 0;
}

for (const name of ['mouseleave', 'focusout'])
    $('operations-scroll').addEventListener(name, () => setTimeout(() => { if (fresh.length > 0) drawOperations(); }, 50));

async function showLocks() {
    try {
        const { locks } = await askJson('/v1/locks'), key = JSON.stringify(locks);
        if ($('lock-list').dataset.of !== key) {
            $('lock-list').dataset.of = key;
            $('lock-list').replaceChildren(...locks.map(lockRow));
            $('locks-empty').hidden = locks.length > 0;
        }
    } catch { /* the banner says it */ }
    setTimeout(showLocks, document.hidden ? 10000 : 2000);
}

function lockRow(l) {
    const key = encodedOf(l, 'key'), at = visible(l.node || '?') + (l.client ? ' (' + visible(l.client) + ')' : '');
    const range = l.kind === 'flock' ? 'whole file' : 'bytes ' + l.start + (l.end === null ? ' and on' : ' to ' + l.end);
    const what = l.kind === 'delegated' ? 'its locks are kept by the mount at ' + at + ', at first for process ' + l.pid
        : (l.exclusive ? 'exclusive' : 'shared') + ', ' + range + ', by process ' + l.pid + ' at ' + at;
    return el('li', {}, el('span', { class: l.waits ? 'chip' : 'chip leader', text: l.waits ? 'waits' : l.kind === 'delegated' ? 'keeps' : 'holds' }),
        key ? el('a', { href: '#/' + key, text: decoded(key) }) : el('span', { text: 'inode ' + l.ino }),
        el('span', { class: 'muted', text: what }));
}

/* ---- keys: a directory ---- */

const PAGE = 100, SHOWN_MAX = 256 * 1024;
let dir = null, dirNext = null, dirCount = 0, key = null;
let entry = null;      // of the open key: {etag, version, size, bytes, text, deleted}
let mode = 'value';    // or 'edit', 'diff'
let turn = 0;          // of the open key: an answer of another one is dropped
const authors = new Map(); // KEY@REVISION: who

function route() {
    if (location.hash !== '' && !location.hash.startsWith('#/')) return;
    const path = location.hash.slice(2);
    const isKey = path !== '' && !path.endsWith('/'), folder = isKey ? parentOf(path) : path;
    if (folder !== dir) openDirectory(folder);
    if (isKey) openKey(path);
    else closeKey();
    markCurrent();
}

function markCurrent() {
    for (const row of $('key-rows').children) mark(row, 'aria-current', row.dataset.key === key ? 'true' : null);
}

function showCrumbs() {
    const parts = dir.split('/').filter(Boolean), nodes = [el('a', { href: '#/', text: 'all keys', 'aria-current': parts.length === 0 ? 'page' : undefined })];
    parts.forEach((part, i) => nodes.push(el('span', { text: '/', 'aria-hidden': 'true' }),
        el('a', { href: '#/' + parts.slice(0, i + 1).join('/') + '/', text: decoded(part), 'aria-current': i === parts.length - 1 ? 'page' : undefined })));
    $('crumbs').replaceChildren(...nodes);
}

function openDirectory(folder) {
    dir = folder;
    dirNext = null;
    showCrumbs();
    $('keys-empty').hidden = true;
    $('keys-more').hidden = true;
    $('key-rows').replaceChildren(...[1, 2, 3].map(() => el('tr', { role: 'row' }, el('td', { role: 'cell' }, el('span', { class: 'bone' })))));
    loadDirectory(false);
}

async function loadDirectory(more) {
    const folder = dir, want = more ? PAGE : Math.max(PAGE, Math.min(dirCount, 300));
    try {
        const answer = await askJson('/kv/' + folder + '?limit=' + want + (more && dirNext ? '&after=' + dirNext : ''));
        if (folder !== dir) return;
        showEntries(answer, more);
    } catch (error) {
        if (folder !== dir) return;
        failed.dir = passes(error);
        if (failed.dir && $('key-rows').querySelector('[data-key]')) return; // what is shown stays, until the node answers
        dirCount = 0;
        $('key-rows').replaceChildren();
        $('keys-more').hidden = true;
        $('keys-empty').hidden = false;
        put($('keys-empty'), error.status === 404 ? 'There is no such directory any more.' : 'It cannot be listed now: ' + error.message);
    }
}

const inOrder = new Intl.Collator('en', { numeric: true });

function showEntries(answer, more) {
    const body = $('key-rows'), old = new Map([...body.children].filter(row => row.dataset.key !== undefined).map(row => [row.dataset.key, row]));
    const rows = answer.entries.map(e => {
        e.key = dir + encodedOf(e, 'name') + (e.type === 'directory' ? '/' : '');
        const row = old.get(e.key) || makeRow(e);
        showRow(row, e);
        return row;
    });
    const kept = more ? [...old.values()].filter(row => !rows.includes(row)) : [];
    const focused = document.activeElement && body.contains(document.activeElement) ? document.activeElement : null;
    const all = [...kept, ...rows].sort((a, b) => a.dataset.key.endsWith('/') === b.dataset.key.endsWith('/') ? inOrder.compare(decoded(a.dataset.key), decoded(b.dataset.key))
        : a.dataset.key.endsWith('/') ? -1 : 1);
    if (all.length !== body.children.length || all.some((row, i) => body.children[i] !== row)) body.replaceChildren(...all);
    if (focused && focused.isConnected) focused.focus({ preventScroll: true });
    dirCount = all.length;
    dirNext = answer.next || null;
    $('keys-more').hidden = !answer.more;
    $('keys-empty').hidden = all.length > 0;
    if (all.length === 0) put($('keys-empty'), dir === '' ? 'There are no keys yet. Write one with “New key”, or with curl, kvnode set or on a mount.' : 'This directory is empty.');
    markCurrent();
}

function makeRow(e) {
    const cell = (className) => el('td', { role: 'cell', class: className });
    return el('tr', { role: 'row', 'data-key': e.key }, el('td', { role: 'cell' }, el('a', { href: '#/' + e.key, 'data-type': e.type })), cell('num'), cell('num'), cell(''), cell(''));
}

const watcher = new IntersectionObserver(seen => {
    for (const { isIntersecting, target } of seen)
        if (isIntersecting) {
            watcher.unobserve(target);
            wantAuthor(target);
        }
});

function showRow(row, e) {
    const [name, bytes, version, author, changed] = row.children;
    put(name.firstChild, decoded(lastOf(e.key)).replace(/\/$/, ''));
    mark(name.firstChild, 'title', decoded(e.key));
    put(bytes, e.size === undefined ? '' : e.type === 'directory' ? e.size + (e.size === 1 ? ' entry' : ' entries') : size(e.size));
    put(version, e.version ? 'v' + e.version : '');
    put(changed, e.time ? ago(e.time) : '');
    changed.dataset.time = e.time || '';
    changed.title = e.time ? whenOf(e.time) : '';
    const id = e.key + '@' + e.revision;
    if (e.type !== 'file' || !e.version) {
        put(author, '');
    } else if (authors.has(id)) {
        put(author, authors.get(id));
    } else {
        row.dataset.author = id;
        watcher.observe(row);
    }
}

/* Who wrote it is in the history, which is asked for of what is seen, some at a time. */
const wanted = [];
let asking = 0;

function wantAuthor(row) {
    wanted.push(row);
    nextAuthor();
}

async function nextAuthor() {
    if (asking >= 4 || wanted.length === 0) return;
    const row = wanted.shift();
    asking++;
    try {
        const id = row.dataset.author, answer = await askJson('/kv/' + row.dataset.key + '?history&limit=5&local'), last = answer.versions.find(v => !v.attributes_only);
        if (last) {
            if (authors.size > 2000) authors.clear();
            authors.set(id, authorOf(last));
            if (row.dataset.author === id) put(row.children[3], authorOf(last));
        }
    } catch (error) { // it has gone, or is asked for once more with the next listing
        if (passes(error)) failed.dir = true;
    }
    asking--;
    nextAuthor();
}

let reloading = null;
function reloadSoon() {
    if (!reloading)
        reloading = setTimeout(() => {
            reloading = null;
            loadDirectory(false);
        }, 400);
}

/* A change of a key, as it is heard. */
function touched(changed, row) {
    if (changed === '' || dir === null) return;
    if (row.version && row.type === 'file' && !row.attributes_only) authors.set(changed + '@' + row.revision, authorOf(row));
    if (changed.startsWith(dir)) reloadSoon();
    if (changed === key && entry && placeOf(row.revision) > placeOf(entry.revision || '0')) keyChanged(row);
}

setInterval(() => {
    for (const row of $('key-rows').children)
        if (row.lastChild.dataset.time) put(row.lastChild, ago(row.lastChild.dataset.time));
    if (entry && entry.time) showMeta();
}, 5000);

$('keys-more').onclick = () => loadDirectory(true);
$('go').onsubmit = e => {
    e.preventDefault();
    const path = $('go-to').value.trim().replace(/^\/+/, '');
    location.hash = '#/' + encodeKey(path);
    $('keys').scrollIntoView();
};

/* ---- keys: a value ---- */

function note(text, level, ...more) {
    $('key-note').hidden = !text;
    $('key-note').className = 'note ' + (level || '');
    $('key-note').replaceChildren(el('span', { text: text || '' }), ...more);
}

function closeKey() {
    key = entry = null;
    turn++;
    $('key-open').hidden = true;
    $('key-none').hidden = false;
}

let opening = Promise.resolve(); // the last one that was begun

function openKey(path) {
    opening = showOpened(path);
    return opening;
}

async function showOpened(path) {
    if (path !== key) {
        key = path;
        entry = null;
        note('');
        put($('key-title'), decoded(path));
        put($('key-meta'), '');
        $('value').replaceChildren(el('pre', {}, el('span', { class: 'bone bone-line' })));
        $('versions').replaceChildren();
        $('versions-more').hidden = true;
        for (const id of ['edit', 'delete']) $(id).disabled = true;
        $('key-none').hidden = true;
        $('key-open').hidden = false;
        if (matchMedia('(max-width: 960px)').matches) $('detail-side').scrollIntoView();
    }
    mode = 'value';
    const mine = ++turn;
    try {
        const got = await readValue('/kv/' + path);
        if (mine !== turn) return;
        entry = got;
    } catch (error) {
        if (mine !== turn) return;
        entry = { deleted: true, why: error.status === 404 ? 'There is no such key.' : error.message, gone: error.status === 404 };
        failed.key = passes(error);
    }
    showKey();
    await loadVersions(false);
}

/* Of a long one only what it is. */
async function readValue(address) {
    const stop = new AbortController(), timer = setTimeout(() => stop.abort(), 10000);
    try {
        const answer = await ask(address, { signal: stop.signal }), long = Number(answer.headers.get('Content-Length')) > SHOWN_MAX;
        const etag = answer.headers.get('ETag'), got = {
            etag, revision: etag ? etag.slice(1, -1) : '', version: Number(answer.headers.get('KV-Version')), time: answer.headers.get('Last-Modified'),
            size: Number(answer.headers.get('Content-Length')), bytes: null, text: null };
        if (long) {
            stop.abort();
        } else {
            got.bytes = new Uint8Array(await answer.arrayBuffer());
            got.size = got.bytes.length;
            got.text = textOf(got.bytes);
        }
        return got;
    } finally {
        clearTimeout(timer);
    }
}

function textOf(bytes) {
    try {
        const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
        return text.includes('\0') ? null : text;
    } catch {
        return null;
    }
}

function showMeta() {
    const last = entry.last;
    put($('key-meta'), entry.deleted ? '' : [entry.version ? 'Version ' + entry.version : 'No versions are kept', size(entry.size),
        last ? 'by ' + authorOf(last) : null, ago(last ? last.time : entry.time)].filter(Boolean).join(' · '));
}

function showKey() {
    $('edit').disabled = entry.deleted ? !entry.gone : entry.text === null;
    put($('edit'), entry.deleted ? 'Write it' : 'Edit');
    $('delete').disabled = Boolean(entry.deleted);
    $('download').hidden = Boolean(entry.deleted);
    mark($('download'), 'href', '/kv/' + key);
    mark($('download'), 'download', visible(decoded(lastOf(key))));
    showMeta();
    if (mode === 'value') showValue();
}

function hex(bytes) {
    const lines = [];
    for (let i = 0; i < Math.min(bytes.length, 512); i += 16) {
        const part = [...bytes.slice(i, i + 16)];
        lines.push(i.toString(16).padStart(4, '0') + '  ' + part.map(b => b.toString(16).padStart(2, '0')).join(' ').padEnd(47) + '  ' +
            part.map(b => b > 31 && b < 127 ? String.fromCharCode(b) : '·').join(''));
    }
    return lines.join('\n') + (bytes.length > 512 ? '\n… ' + size(bytes.length) + ' in all' : '');
}

function showValue() {
    const box = $('value');
    if (entry.deleted) box.replaceChildren(el('p', { class: 'empty', text: entry.why }));
    else if (entry.bytes === null) box.replaceChildren(el('p', { class: 'empty', text: 'The value has ' + size(entry.size) + ': download it to see it.' }));
    else if (entry.size === 0) box.replaceChildren(el('p', { class: 'empty', text: 'The value is empty.' }));
    else if (entry.text === null) box.replaceChildren(el('pre', { tabindex: '0', 'aria-label': 'Value, not text', text: hex(entry.bytes) }));
    else box.replaceChildren(el('pre', { tabindex: '0', 'aria-label': 'Value', text: entry.text }));
}

async function keyChanged(row) {
    if (mode === 'value') {
        await openKey(key);
    } else {
        note((row.deleted ? 'It has been deleted by ' : 'It is version ' + row.version + ' now, written by ') + authorOf(row) + ' meanwhile.', '');
        loadVersions(false);
    }
}

/* ---- versions ---- */

let versionsNext = null;

async function loadVersions(more) {
    const mine = turn;
    try {
        const answer = await askJson('/kv/' + key + '?history&limit=30' + (more && versionsNext ? '&after=' + versionsNext : ''));
        if (mine !== turn || !entry) return;
        const rows = answer.versions.filter(v => !v.attributes_only);
        if (!more) entry.last = rows[0];
        versionsNext = answer.next || null;
        $('versions-more').hidden = !answer.more;
        $('versions')[more ? 'append' : 'replaceChildren'](...rows.map(versionRow));
        showMeta();
        if (entry.gone && rows.length > 0) {
            entry.revision = rows[0].revision;
            entry.why = 'It was deleted ' + ago(rows[0].time) + ' by ' + authorOf(rows[0]) + '. An older version can be restored.';
            if (mode === 'value') showValue();
        }
    } catch (error) {
        if (mine !== turn || more) return;
        failed.versions = passes(error);
        const text = error.status === 404 ? 'None is kept.' : 'They cannot be read now: ' + error.message;
        $('versions').replaceChildren(el('li', {}, el('b'), el('span', { text })));
    }
}

function versionRow(v) {
    const current = v.current && !entry.deleted, text = [v.deleted ? 'deleted' : size(v.size), authorOf(v), ago(v.time)].join(' · ');
    const buttons = v.deleted || v.type !== 'file' || current ? el('span', { class: 'small muted', text: current ? 'current' : '' })
        : el('button', { type: 'button', class: 'link', text: entry.deleted ? 'Look' : 'Compare', 'aria-label': (entry.deleted ? 'Look at' : 'Compare') + ' version ' + v.version, onclick: () => compare(v) });
    return el('li', { 'aria-current': current ? 'true' : undefined, 'data-version': v.version }, el('b', { text: 'v' + v.version }), el('span', { text, title: whenOf(v.time) }), buttons);
}

async function compare(v) {
    const path = key, old = await readValue('/kv/' + key + '?version=' + v.version).catch(error => ({ error }));
    for (let last = null; last !== opening;) { // with what is there now, not with what was when it was asked for
        last = opening;
        await last;
    }
    if (path !== key || mode === 'edit') return;
    if (old.error) {
        note('Version ' + v.version + ' cannot be read: ' + old.error.message, 'bad');
        return;
    }
    mode = 'diff';
    const title = entry.deleted ? 'Version ' + v.version : 'From version ' + v.version + ' to ' + entry.version + ' (current)';
    const back = el('button', { type: 'button', text: 'Back', onclick: () => { mode = 'value'; showValue(); $('key-title').focus(); } });
    const restore = el('button', { type: 'button', class: 'primary', id: 'restore', text: 'Restore version ' + v.version + '…', onclick: () => askRestore(v) });
    $('value').replaceChildren(el('div', { class: 'diff-head' }, el('span', { text: title }), back, restore),
        entry.deleted ? el('pre', { tabindex: '0', text: old.text === null ? (old.bytes ? hex(old.bytes) : size(old.size)) : old.text }) : diffOf(old, entry));
    restore.focus({ preventScroll: true });
}

function diffOf(old, young) {
    if (old.text === null || young.text === null)
        return el('p', { class: 'empty', text: 'Not both are text that could be compared: ' + size(old.size) + ' before, ' + size(young.size) + ' now.' });
    const rows = diffLines(old.text, young.text), box = el('div', { class: 'diff', tabindex: '0', role: 'region', 'aria-label': 'Differences' });
    if (rows.every(r => r[0] === ' ')) box.append(el('div', { 'data-sign': '', class: 'skip-lines' }, el('span', { text: 'They are the same.' })));
    else
        folded(rows).forEach((r, i, all) => box.append(el('div', { class: { '+': 'add', '-': 'del', '…': 'skip-lines' }[r[0]], 'data-sign': r[0] === '-' ? '−' : r[0] === '…' ? '' : r[0] }, lineOf(r, i, all))));
    return box;
}

/* Of one line in the place of another the middle that differs is marked. */
function lineOf(r, i, all) {
    const before = all[i - 1], after = all[i + 1];
    const other = r[0] === '-' && after && after[0] === '+' && (!before || before[0] !== '-') && (!all[i + 2] || all[i + 2][0] !== '+') ? after
        : r[0] === '+' && before && before[0] === '-' && (!after || after[0] !== '+') && (!all[i - 2] || all[i - 2][0] !== '-') ? before : null;
    const span = el('span'), text = r[1];
    if (!other) {
        span.textContent = text || ' ';
        return span;
    }
    let a = 0, b = 0;
    while (a < Math.min(text.length, other[1].length) && text[a] === other[1][a]) a++;
    while (b < Math.min(text.length, other[1].length) - a && text[text.length - 1 - b] === other[1][other[1].length - 1 - b]) b++;
    if (a + b === 0) span.textContent = text;
    else span.append(text.slice(0, a), el('mark', { text: text.slice(a, text.length - b) }), text.slice(text.length - b));
    return span;
}

const LINES_MAX = 1500;

/* [sign, line]: the longest common subsequence of the lines between what is alike at both ends. */
function diffLines(before, after) {
    const split = text => text === '' ? [] : text.endsWith('\n') ? text.slice(0, -1).split('\n') : text.split('\n').map((l, i, all) => i === all.length - 1 ? l + '\u2423no newline' : l);
    let a = split(before), b = split(after);
    if (!before.endsWith('\n') && !after.endsWith('\n')) [a, b] = [before.split('\n'), after.split('\n')];
    let head = 0, tail = 0;
    while (head < Math.min(a.length, b.length) && a[head] === b[head]) head++;
    while (tail < Math.min(a.length, b.length) - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
    const rows = a.slice(0, head).map(l => [' ', l]), end = a.slice(a.length - tail).map(l => [' ', l]);
    a = a.slice(head, a.length - tail);
    b = b.slice(head, b.length - tail);
    if (a.length > LINES_MAX || b.length > LINES_MAX) return [...rows, ...a.map(l => ['-', l]), ...b.map(l => ['+', l]), ...end];
    const width = b.length + 1, long = new Uint16Array((a.length + 1) * width);
    for (let i = a.length - 1; i >= 0; i--)
        for (let j = b.length - 1; j >= 0; j--)
            long[i * width + j] = a[i] === b[j] ? long[(i + 1) * width + j + 1] + 1 : Math.max(long[(i + 1) * width + j], long[i * width + j + 1]);
    let i = 0, j = 0;
    while (i < a.length || j < b.length)
        if (i < a.length && j < b.length && a[i] === b[j]) rows.push([' ', a[i]]), i++, j++;
        else if (j === b.length || (i < a.length && long[(i + 1) * width + j] >= long[i * width + j + 1])) rows.push(['-', a[i++]]);
        else rows.push(['+', b[j++]]);
    return [...rows, ...end];
}

/* Three lines around each change. */
function folded(rows) {
    const near = new Set(), out = [];
    rows.forEach((r, i) => { if (r[0] !== ' ') for (let k = i - 3; k <= i + 3; k++) near.add(k); });
    for (let i = 0; i < rows.length; i++) {
        if (near.has(i)) {
            out.push(rows[i]);
            continue;
        }
        let n = 0;
        while (i + n < rows.length && !near.has(i + n)) n++;
        out.push(n === 1 ? rows[i] : ['…', n + ' lines alike']);
        i += n - 1;
    }
    return out;
}

/* ---- writing ---- */

/* What is written only if the key is still what was looked at. After 504 once more under the number that the node
 * has given, which is executed once. */
async function write(path, method, body, match) {
    const headers = match ? { 'If-Match': match } : method === 'PUT' ? { 'If-None-Match': '*' } : {};
    const options = { method, headers, body: body === null ? undefined : body, signal: AbortSignal.timeout(15000) };
    try {
        return await askJson('/kv/' + path, options);
    } catch (error) {
        const again = error.status === 504 && error.answer.headers.get('Idempotency-Key');
        if (!again) throw error;
        return askJson('/kv/' + path, { ...options, headers: { ...headers, 'Idempotency-Key': again }, signal: AbortSignal.timeout(15000) });
    }
}

const wordsOf = error => error.status ? error.message : error.name === 'TimeoutError' ? 'the node has not answered; look before you try again' : 'the node is not reached; look before you try again';

function edit() {
    const box = $('value'), area = el('textarea', { id: 'editor', 'aria-label': 'Value of ' + decoded(key), spellcheck: 'false', rows: 8 });
    const save = el('button', { type: 'button', class: 'primary', id: 'save', text: 'Save' }), cancel = el('button', { type: 'button', text: 'Cancel' });
    let match = entry.deleted ? null : entry.etag;
    mode = 'edit';
    note('');
    area.value = entry.deleted ? '' : entry.text;
    const keep = !entry.deleted && area.value === entry.text; // a textarea turns CR LF into LF
    box.replaceChildren(area, el('div', { class: 'edit-bar' }, save, cancel, el('span', { class: 'muted', text: 'Ctrl+Enter saves' })));
    if (!keep && !entry.deleted) note('The value has carriage returns, which are lost when it is saved here.', '');
    area.focus();
    const leave = () => { mode = 'value'; note(''); openKey(key); $('edit').focus(); };
    cancel.onclick = leave;
    const send = async () => {
        const mine = turn;
        save.disabled = true;
        try {
            const done = await write(key, 'PUT', area.value, match);
            if (mine !== turn) return;
            await openKey(key);
            note('Saved as version ' + done.version + '.', 'good');
            $('edit').focus();
        } catch (error) {
            save.disabled = false;
            if (error.status !== 412 || mine !== turn) {
                note('Not saved: ' + wordsOf(error), 'bad');
                return;
            }
            const theirs = await readValue('/kv/' + key).catch(() => null);
            if (mine !== turn) return;
            note('Not saved: it was ' + (theirs ? 'changed' : 'deleted') + ' meanwhile. Your text is still here.', 'bad',
                el('button', { type: 'button', class: 'link', text: theirs ? 'Write over version ' + theirs.version : 'Write it anew', onclick: () => { match = theirs ? theirs.etag : null; send(); } }));
            if (theirs && theirs.text !== null) {
                const old = box.querySelector('.diff');
                if (old) old.remove();
                box.append(el('h4', { text: 'From what is there to your text' }), diffOf(theirs, { text: area.value, size: area.value.length }));
            }
        }
    };
    save.onclick = send;
    area.onkeydown = e => {
        if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) send();
        else if (e.key === 'Escape' && area.value === (entry.text || '')) leave();
    };
}

/* Asks, and does it when it is confirmed: action() gives null, or what went wrong. */
function confirmThat({ title, text, ok, danger, fields }, action) {
    const dialog = $('dialog'), before = document.activeElement;
    put($('dialog-title'), title);
    put($('dialog-text'), text);
    put($('dialog-ok'), ok);
    $('dialog-ok').className = danger ? 'primary danger' : 'primary';
    $('dialog-ok').disabled = false;
    $('dialog-error').hidden = true;
    $('dialog-fields').replaceChildren(...(fields || []));
    $('dialog-cancel').onclick = () => dialog.close();
    dialog.onclose = () => before && before.isConnected && before.focus({ preventScroll: true });
    $('dialog-form').onsubmit = async e => {
        e.preventDefault();
        $('dialog-ok').disabled = true;
        const wrong = await action();
        $('dialog-ok').disabled = false;
        if (wrong === null) {
            dialog.close();
            return;
        }
        put($('dialog-error'), wrong);
        $('dialog-error').hidden = false;
    };
    dialog.showModal();
    (fields ? $('dialog-fields').querySelector('input') : $('dialog-cancel')).focus();
}

function askRestore(v) {
    const path = key, match = entry.deleted ? null : entry.etag;
    confirmThat({ title: 'Restore version ' + v.version + ' of ' + decoded(path) + '?', ok: 'Restore version ' + v.version,
        text: 'Its value becomes the newest version; all others are kept.' }, async () => {
        try {
            const old = await (await ask('/kv/' + path + '?version=' + v.version, { signal: AbortSignal.timeout(30000) })).blob();
            const done = await write(path, 'PUT', old, match);
            if (path === key) {
                await openKey(path);
                note('Version ' + v.version + ' is restored, as version ' + done.version + '.', 'good');
            }
            return null;
        } catch (error) {
            return error.status === 412 ? 'It was changed meanwhile, so nothing was restored. Close this and look at it again.' : 'Not restored: ' + wordsOf(error);
        }
    });
}

function askDelete() {
    const path = key, match = entry.etag;
    confirmThat({ title: 'Delete ' + decoded(path) + '?', ok: 'Delete', danger: true, text: 'Its versions are kept, so that it can be restored here.' }, async () => {
        try {
            await write(path, 'DELETE', null, match);
            if (path === key) await openKey(path);
            return null;
        } catch (error) {
            return error.status === 412 ? 'It was changed meanwhile, so it was not deleted.' : 'Not deleted: ' + wordsOf(error);
        }
    });
}

function askNew() {
    const name = el('input', { id: 'new-name', required: true, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off' }), value = el('textarea', { id: 'new-value', spellcheck: 'false', rows: 5 });
    name.value = decoded(dir || '');
    confirmThat({ title: 'New key', ok: 'Write', text: 'Slashes part directories, which are made if they are missing.',
        fields: [el('label', { text: 'Key' }, name), el('label', { text: 'Value' }, value)] }, async () => {
        const path = encodeKey(name.value.trim().replace(/^\/+/, ''));
        try {
            if (path === '' || path.endsWith('/')) return 'A key does not end in a slash.';
            await write(path, 'PUT', value.value, null);
            location.hash = '#/' + path;
            reloadSoon();
            return null;
        } catch (error) {
            return error.status === 412 ? 'There is such a key already.' : 'Not written: ' + wordsOf(error);
        }
    });
}

$('edit').onclick = edit;
$('delete').onclick = askDelete;
$('new-key').onclick = askNew;
$('versions-more').onclick = () => loadVersions(true);
$('key-title').tabIndex = -1;
addEventListener('hashchange', route);
/* A page that the browser keeps for its Back button must not keep its stream: a browser has six connections to a node. */
addEventListener('pagehide', () => {
    if (events) events.close();
    events = null;
});
addEventListener('pageshow', e => { if (e.persisted && status) listen(); });

route();
beat();
showLocks();
