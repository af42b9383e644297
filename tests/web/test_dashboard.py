#!/usr/bin/env python3
"""The page /dashboard in a headless Chromium, at the nodes whose addresses are given: NAME=URL…

Run by test_dashboard.sh, which has made the cluster. KVNODE_BIN is the program, WORK a folder that is removed afterwards,
SHOTS one for screenshots. How fast the page is to show something is measured, and compared with its limit only if the
machine has time for it; whether it shows it is always waited for."""
import fcntl
import json
import os
import re
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
from urllib.parse import quote

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from driver import Browser, wait_for  # noqa: E402

NODES = dict(a.split('=', 1) for a in sys.argv[1:])
KVNODE = os.environ['KVNODE_BIN']
WORK = os.environ['WORK']
EVIL = '<img src=x onerror="window.evil=1"><script>window.evil=1<' + '\\' + '/script>'


def http(url, method='GET', body=None, headers=None):
    request = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def served(url, method='GET', body=None):
    """A 503 says that nothing was done: leaders change here."""
    def once():
        got = http(url, method, body)
        return got if got[0] != 503 else None
    return wait_for('%s %s is served' % (method, url), once)


def put(key, value, url=None):
    status, _, body = served((url or NODES['n1']) + '/kv/' + quote(key), 'PUT', value.encode())
    assert status in (200, 201), body
    return json.loads(body)


def get(key, url=None):
    return served((url or NODES['n1']) + '/kv/' + key)[2].decode()


def in_time(what, took, limit):
    """On a machine that has other things to do there is no telling."""
    load, cores = os.getloadavg()[0], os.cpu_count()
    say('%s after %.2f s' % (what, took) + ('' if load <= 2 * cores else ' (load %.0f on %d cores: not judged)' % (load, cores)))
    assert took <= limit or load > 2 * cores, '%s after %.2f s, not within %g s' % (what, took, limit)


def dev(*what):
    done = subprocess.run([KVNODE, 'dev', *what], check=False, timeout=90, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


def say(text):
    print('--- %5.1f s  %s' % (time.monotonic() - BEGIN, text), flush=True)


def same(a, b):
    assert a == b, '%r, not %r' % (a, b)


def serves_what_it_should():
    status, headers, body = http(NODES['n1'] + '/dashboard')
    same((status, headers['Content-Type']), (200, 'text/html; charset=utf-8'))
    assert "default-src 'self'" in headers['Content-Security-Policy'], headers
    page = body.decode()
    assert not re.search(r'<script(?! src="/dashboard\.js")|\son\w+=|style=|<style', page), 'something stands inline'
    assert not re.search(r'(https?:)?//[a-z]', page), 'an address of another origin'
    status, headers, body = http(NODES['n1'] + '/dashboard', headers={'Accept': 'application/json'})
    same((status, headers['Content-Type']), (200, 'application/json'))
    status_keys = set(json.loads(http(NODES['n1'] + '/v1/status')[2]))
    same(set(json.loads(body)), status_keys)
    script = http(NODES['n1'] + '/dashboard.js')[2].decode()
    assert not re.search(r'innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function', script), 'markup is made of text'
    pulse = json.loads(http(NODES['n1'] + '/v1/pulse')[2])
    again = json.loads(http(NODES['n1'] + '/v1/pulse?since=%d' % pulse['next'])[2])
    assert len(again['samples']) <= 2 and len(pulse['samples']) == pulse['next'], (pulse, again)
    same(http(NODES['n1'] + '/v1/pulse?since=x')[0], 400)


def is_filled_at_once(b):
    """What was written before the page was opened: keys and operations, although nothing new comes."""
    put('app/first', 'x')
    subprocess.run([KVNODE, 'set', 'second', 'x', '--as', 'deploy'], check=True, timeout=60, stdin=subprocess.DEVNULL)
    # More commands than the page looks back for at first, none of which has a row in the log.
    for _ in range(160):
        same(served(NODES['n1'] + '/v1/txn', 'POST', b'{"if": [{"key": "second", "missing": true}], "else": []}')[0], 200)
    b.open('about:blank')
    b.open(NODES['n1'] + '/dashboard')
    wait_for('the keys', lambda: b.js("return [...document.querySelectorAll('#key-rows [data-key]')].map(r => r.dataset.key)") == ['app/', 'second'])
    wait_for('the operations', lambda: b.js("return [...document.querySelectorAll('#operation-list a')].map(a => a.textContent)")[:2] == ['second', 'app/first'])
    wait_for('their authors, with the label', lambda: re.match(r'\S+@n\d\(deploy\)$', b.text('#operation-list .by')))
    b.js("document.querySelector('[data-key=\"second\"]').scrollIntoView()")  # authors are asked for of what is seen
    wait_for('of the key likewise', lambda: re.match(r'\S+@n\d\(deploy\)$', b.text('[data-key="second"] td:nth-child(4)')))
    same(b.js("return document.querySelector('#operations-empty').hidden"), True)


def shows_the_cluster(b):
    wait_for('the page is live', lambda: b.text('#live') == 'live')
    wait_for('it says which may fail', lambda: b.text('#headline') == 'Any one node may fail.')
    leader = wait_for('one leads', lambda: b.js("const l = document.querySelectorAll('.chip.leader'); return l.length === 1 && l[0].closest('li').dataset.node"))
    wait_for('the same in the time line', lambda: b.text('#leader') == leader)
    same(b.js("return [...document.querySelectorAll('.node')].map(n => n.dataset.node + ' ' + n.querySelector('.state').textContent)"),
         ['n1 healthy', 'n2 healthy', 'n3 healthy'])
    wait_for('their facts', lambda: all(
        re.search(r'Lag\s+\S', node) and re.search(r'Up\s+\d', node) and re.search(r'Disk\s+\d.* free of \d', node)
        for node in b.js("return [...document.querySelectorAll('.node dl')].map(n => n.innerText)")))
    return leader


def hears_at_once(b):
    put('app/color', 'blue', NODES['n2'])
    began = time.monotonic()
    put('app/color', 'green\n', NODES['n3'])
    wait_for('an operation shows', lambda: b.js("return document.querySelectorAll('#operation-list a[href=\"#/app/color\"]').length >= 2"))
    in_time('a write elsewhere shows', time.monotonic() - began, 3)
    wait_for('the directory shows', lambda: b.js("return document.querySelector('[data-key=\"app/\"]') !== null"))
    wait_for('writes are counted', lambda: b.js("return document.querySelector('#rate-line .line:not(.upper)').getAttribute('d').length > 30"))
    wait_for('their time is shown', lambda: re.match(r'\d', b.text('#p50')) and re.match(r'\d', b.text('#p99')))


def browses(b):
    b.open(NODES['n1'] + '/dashboard#/app/')
    cells = wait_for('the row with its author', lambda: (lambda c: c if c and c[3] else None)(
        b.js("const r = document.querySelector('[data-key=\"app/color\"]'); return r && [...r.children].map(c => c.textContent)")))
    same(cells[:3], ['color', '6\u00a0B', 'v2'])
    assert cells[3].endswith('@n3'), cells
    b.js("document.querySelector('[data-key=\"app/color\"] a').click()")
    wait_for('the value', lambda: b.text('#value pre') == 'green\n' or b.text('#value pre') == 'green')
    wait_for('its versions', lambda: b.js("return document.querySelectorAll('#versions li').length") == 2)
    wait_for('what it is', lambda: re.match(r'Version 2 · 6\u00a0B · by \S+@n3 · ', b.text('#key-meta')))


def edits_and_restores_with_the_keyboard(b):
    """From the top of the page, by Tab, Enter and text alone."""
    focus = "const e = document.activeElement; return e ? e.id || e.textContent : ''"

    def tab_to(name, limit=120):
        for _ in range(limit):
            if b.js(focus) == name:
                return
            b.press('Tab')
        raise AssertionError('Tab does not come to %r' % name)

    wait_for('it can be edited', lambda: b.js("return !document.querySelector('#edit').disabled"))
    b.js("document.activeElement.blur(); document.body.focus(); scrollTo(0, 0)")
    tab_to('edit')
    ring = b.js("return getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth")
    same(ring, 'solid2px')
    b.press('Enter')
    wait_for('the editor has the focus', lambda: b.js(focus) == 'editor')
    b.press('Control+a', 'turquoise')
    b.press('Control+Enter')
    wait_for('it is saved', lambda: b.text('#key-note') == 'Saved as version 3.')
    same(get('app/color', NODES['n2']), 'turquoise')
    wait_for('it shows', lambda: b.text('#value pre') == 'turquoise')
    say('edited')

    wait_for('the focus is on Edit again', lambda: b.js(focus) == 'edit')
    b.press('Enter')
    wait_for('the editor has the focus', lambda: b.js(focus) == 'editor')
    b.press('Control+a', 'mine')
    same(put('app/color', 'theirs', NODES['n3'])['version'], 4)
    wait_for('the page has heard of it', lambda: 'meanwhile' in (b.text('#key-note') or ''))
    b.press('Control+Enter')
    wait_for('a conflict is told', lambda: (b.text('#key-note') or '').startswith('Not saved: it was changed'))
    same(get('app/color'), 'theirs')
    same(b.js("return document.querySelector('#editor').value"), 'mine')
    wait_for('and what differs', lambda: b.js("return [...document.querySelectorAll('.diff div')].map(d => d.dataset.sign + d.textContent).join()") == '−theirs,+mine')
    tab_to('Cancel')
    b.press('Enter')
    wait_for('theirs is shown', lambda: b.text('#value pre') == 'theirs')
    say('a conflict is told, and nothing is lost')

    wait_for('version 1 is listed', lambda: b.js("return document.querySelector('[data-version=\"1\"] button') !== null"))
    wait_for('the focus is on Edit once more', lambda: b.js(focus) == 'edit')
    for _ in range(20):
        if b.js("return document.activeElement.getAttribute('aria-label')") == 'Compare version 1':
            break
        b.press('Tab')
    b.press('Enter')
    wait_for('Restore has the focus', lambda: b.js(focus) == 'restore')
    same(b.js("return [...document.querySelectorAll('.diff div')].map(d => d.dataset.sign + d.textContent)"), ['−blue', '+theirs'])
    b.press('Enter')
    wait_for('it asks', lambda: b.js(focus) == 'dialog-cancel')
    b.press('Enter')
    wait_for('Cancel closes it', lambda: not b.js("return document.querySelector('#dialog').open"))
    same(get('app/color'), 'theirs')
    wait_for('the focus is back', lambda: b.js(focus) == 'restore')
    b.press('Enter')
    wait_for('it asks again', lambda: b.js(focus) == 'dialog-cancel')
    b.press('Tab', 'Enter')
    wait_for('it is restored', lambda: b.text('#key-note') == 'Version 1 is restored, as version 5.')
    same(get('app/color', NODES['n3']), 'blue')
    say('restored')

    wait_for('it can be deleted', lambda: b.js("const d = document.querySelector('#delete'); d.focus(); return !d.disabled && document.activeElement === d"))
    b.press('Enter')
    wait_for('it asks before it deletes', lambda: b.js(focus) == 'dialog-cancel')
    b.press('Tab', 'Enter')
    wait_for('it is deleted', lambda: 'An older version can be restored' in (b.text('#value') or ''))
    same(http(NODES['n2'] + '/kv/app/color')[0], 404)
    wait_for('version 4 is offered', lambda: b.js("const v = document.querySelector('[data-version=\"4\"] button'); if (v) v.click(); return v !== null"))
    wait_for('Restore has the focus', lambda: b.js(focus) == 'restore')
    b.press('Enter')
    wait_for('it asks', lambda: b.js(focus) == 'dialog-cancel')
    b.press('Tab', 'Enter')
    wait_for('what was deleted is back', lambda: (b.text('#key-note') or '').startswith('Version 4 is restored'))
    same(get('app/color'), 'theirs')
    say('deleted, and restored')

    b.js("document.querySelector('#new-key').focus()")
    b.press('Enter')
    wait_for('the name has the focus', lambda: b.js(focus) == 'new-name')
    b.press('Control+a', 'app/new key', 'Tab', 'fresh', 'Tab', 'Tab', 'Enter')
    wait_for('the new key is open', lambda: b.text('#value pre') == 'fresh')
    same(get('app/new%20key', NODES['n3']), 'fresh')


def markup_stays_text(b):
    put('x/' + EVIL.replace('/', '|'), EVIL)
    b.open(NODES['n1'] + '/dashboard#/x/')
    wait_for('its name is text', lambda: b.text('#key-rows a') == EVIL.replace('/', '|').replace('\\', '\\'))
    b.js("document.querySelector('#key-rows a').click()")
    wait_for('its value is text', lambda: b.text('#value pre') == EVIL)
    wait_for('and among the operations', lambda: b.js("return [...document.querySelectorAll('#operation-list a')].some(a => a.textContent === arguments[0])", 'x/' + EVIL.replace('/', '|')))
    same(b.js("return [window.evil === undefined, document.querySelectorAll('script').length, document.querySelectorAll('img').length]"), [True, 1, 1])


def filled(b):
    """All parts of the page have what they show."""
    wait_for('the page is live', lambda: b.text('#live') == 'live')
    wait_for('nothing is a placeholder any more', lambda: b.js("return document.querySelector('.bone') === null"))
    wait_for('the operations', lambda: b.js("return document.querySelectorAll('#operation-list li').length > 0"))
    wait_for('the time line', lambda: re.match(r'n\d', b.text('#leader')) and b.js("return document.querySelectorAll('#changes li').length > 0"))


def fits(b, shots):
    """At every width, in light and dark: nothing sticks out, and text can be read. As many pages as a browser has
    connections to an address: one that has been left keeps none."""
    contrast = '''
        const lum = c => { const v = c.map(x => x / 255).map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4); return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
        const parse = s => s.match(/[\\d.]+/g).map(Number);
        const bad = [];
        for (const e of document.querySelectorAll('body *')) {
            const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
            if (!own || !e.getClientRects().length || e.closest(':disabled')) continue;
            let at = e, back = [0, 0, 0, 0];
            while (at && back[3] === 0) { const c = parse(getComputedStyle(at).backgroundColor); back = c.length === 3 ? [...c, 1] : c; at = at.parentElement; }
            const a = lum(parse(getComputedStyle(e).color).slice(0, 3)), b = lum(back.slice(0, 3)), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            if (ratio < 4.5) bad.push(e.tagName + ' ' + e.className + ' ' + e.textContent.slice(0, 30) + ' ' + ratio.toFixed(2));
        }
        return bad;'''
    dark_of = {}
    for dark in (False, True):
        b.media(dark, True)
        for width in (375, 1280) if dark else (375, 768, 1280):
            b.size(width, 800)
            b.open('about:blank')
            b.open(NODES['n1'] + '/dashboard#/app/color')
            filled(b)
            wait_for('the value', lambda: b.text('#value pre') == 'theirs')
            wait_for('its versions', lambda: b.js("return document.querySelectorAll('#versions li').length") > 1)
            assert b.js('return document.documentElement.scrollWidth <= innerWidth'), 'it scrolls sideways at %d px' % width
            wide = b.js('return [...document.querySelectorAll("main *")].filter(e => e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".track, svg, .scroll")).map(e => e.outerHTML.slice(0, 80))')
            same(wide, [])
            same(b.js(contrast), [])
            if shots:
                b.screenshot(os.path.join(shots, '%s-%d.png' % ('dark' if dark else 'light', width)))
        dark_of[dark] = b.js('return getComputedStyle(document.body).backgroundColor')
        wait_for('nothing moves', lambda: b.js('return document.getAnimations().every(a => a.playState !== "running")'))
    assert dark_of[False] != dark_of[True], dark_of
    b.media(False, False)


def shows_locks(b):
    """Of kvnode hold, and of a mount if one can be made here: with the key and who holds it."""
    if not os.path.exists('/dev/fuse'):
        say('no /dev/fuse: locks of mounts are not looked at')
        return
    hold = subprocess.Popen([KVNODE, 'hold', 'leader', '--', 'sleep', '600'], stdin=subprocess.DEVNULL)
    try:
        wait_for('what is held, by its key', lambda: 'leader' in b.js("return [...document.querySelectorAll('#lock-list a')].map(a => a.textContent)"))
        assert re.search(r'exclusive, whole file, by process %d at n\d \(kvnode hold sleep' % hold.pid, b.text('#lock-list')), b.text('#lock-list')
    finally:
        hold.terminate()
        hold.wait(60)
    wait_for('it has gone', lambda: b.text('#lock-list') == '' and b.text('#locks-empty') == 'No file is locked.')
    if not os.path.exists('/dev/fuse'):
        say('no /dev/fuse: locks of mounts are not looked at')
        return
    points = [os.path.join(WORK, name) for name in ('mount', 'other')]
    try:
        for point in points:
            os.mkdir(point)
            subprocess.run([os.environ['KVFS_BIN'], 'n1,n2,n3', point], check=True, timeout=60, stdin=subprocess.DEVNULL)
        with open(points[0] + '/app/color', 'r+', encoding='utf-8') as f, open(points[1] + '/app/color', 'r+', encoding='utf-8') as g:
            fcntl.flock(f, fcntl.LOCK_EX)
            wait_for('the lock, as the mount keeps it', lambda: re.search(
                r'app/color\s+its locks are kept by the mount at n\d \(kvfs\), at first for process %d$' % os.getpid(), b.text('#lock-list') or ''))
            fcntl.lockf(g, fcntl.LOCK_EX, 4, 2)
            wait_for('it is given back for another mount', lambda: 'exclusive, whole file, by process %d at ' % os.getpid() in (b.text('#lock-list') or ''))
            wait_for('whose lock shows', lambda: 'exclusive, bytes 2 to 5, by process %d at ' % os.getpid() in b.text('#lock-list'))
            wait_for('the watchers', lambda: re.match(r'[1-9]', b.js("return document.querySelector('#watches dd').textContent")))
        wait_for('they have gone', lambda: b.text('#lock-list') == '' and b.text('#locks-empty') == 'No file is locked.')
    finally:
        for point in points:
            subprocess.run(['fusermount3', '-u', '-z', point], check=False, timeout=20)


def nothing_jumps(b):
    """An update moves nothing."""
    b.open('about:blank')
    b.open(NODES['n1'] + '/dashboard')
    filled(b)
    b.js("""window.shift = 0; window.shifted = [];
        new PerformanceObserver(l => {
            for (const e of l.getEntries()) if (!e.hadRecentInput) {
                window.shift += e.value;
                window.shifted.push(e.value.toFixed(4) + ' ' + e.sources.map(s => s.node && (s.node.id || s.node.className || s.node.textContent.slice(0, 30))).join(', '));
            }
        }).observe({ type: 'layout-shift', buffered: false })""")
    was = b.js("return document.querySelector('#rate-line .line:not(.upper)').getAttribute('d')")
    for i in range(20):
        put('app/new key', 'fresh %d' % i)
    wait_for('it has been updated', lambda: b.js("return document.querySelector('#rate-line .line:not(.upper)').getAttribute('d')") != was)
    # The number is of the last second: whoever wants to see one goes on writing.
    wait_for('writes are counted', lambda: (put('app/new key', 'fresh'), re.match(r'[1-9]', b.text('#rate')))[1])
    wait_for('the operations have them', lambda: b.js("return document.querySelectorAll('#operation-list a[href=\"#/app/new%20key\"]').length >= 20"))
    shift = b.js('return window.shift')
    assert shift < 0.02, 'what was there has moved: %g: %s' % (shift, b.js('return window.shifted'))


def leader_is_killed(b, leader):
    other = next(n for n in NODES if n != leader)
    b.open(NODES[other] + '/dashboard')
    filled(b)
    wait_for('it knows who leads', lambda: b.text('#leader') == leader)
    began = time.monotonic()
    dev('kill', leader)
    wait_for('the page says that it is gone', lambda: b.js("return document.querySelector('[data-node=\"%s\"] .state').textContent" % leader) == 'unreachable')
    wait_for('and names the new leader', lambda: b.js("const l = document.querySelectorAll('.chip.leader'); return l.length === 1 && l[0].closest('li').dataset.node !== '%s'" % leader))
    in_time('the killed leader shows, and the new one,', time.monotonic() - began, 3)
    wait_for('in words', lambda: b.text('#headline') == 'No further node may fail.' and leader + ' is unreachable' in b.text('#detail'))
    wait_for('and in the time line', lambda: len(b.js("return [...document.querySelectorAll('#changes li')].map(l => l.innerText)")) >= 2 and b.js("return document.querySelectorAll('#track .gap').length") >= 1)
    put('app/after', 'x', NODES[other])
    wait_for('it is live all the same', lambda: b.js("return document.querySelector('#operation-list a[href=\"#/app/after\"]') !== null"))
    dev('start', leader)
    wait_for('it is back', lambda: b.text('#headline') == 'Any one node may fail.', 90)


def its_own_node_is_killed(b):
    b.open(NODES['n1'] + '/dashboard#/app/color')
    wait_for('the page is live', lambda: b.text('#live') == 'live')
    wait_for('others are known', lambda: b.text('#headline') == 'Any one node may fail.')
    began = time.monotonic()
    dev('kill', 'n1')
    wait_for('a banner', lambda: (b.text('#banner-text') or '').startswith('n1 does not answer') and not b.js("return document.querySelector('#banner').hidden"))
    in_time('the banner shows', time.monotonic() - began, 3)
    same(b.js("return [...document.querySelectorAll('#banner-others a')].map(a => a.href)"), [NODES[n] + '/dashboard#/app/color' for n in ('n2', 'n3')])
    same(b.text('#live'), 'not reached')
    dev('start', 'n1')
    wait_for('it is live again by itself', lambda: b.text('#live') == 'live' and b.js("return document.querySelector('#banner').hidden"), 90)
    put('app/back', 'x', NODES['n2'])
    wait_for('and hears', lambda: b.js("return document.querySelector('#operation-list a[href=\"#/app/back\"]') !== null"))


def asked_nobody_else(b):
    asked = set()
    for line in b.logs('performance'):
        message = json.loads(line['message'])['message']
        if message['method'] == 'Network.requestWillBeSent':
            url = message['params']['request']['url']
            if not url.startswith(('about:', 'data:', 'chrome:')):  # what a new tab is made of
                asked.add('/'.join(url.split('/')[:3]))
    assert asked, 'nothing was recorded'
    same(asked - set(NODES.values()), set())
    wrong = [l['message'] for l in b.logs('browser') if 'Content Security Policy' in l['message'] or 'Uncaught' in l['message']]
    same(wrong, [])


def main():
    shots = os.environ.get('SHOTS')
    serves_what_it_should()
    folder = os.path.join(WORK, 'browser')
    os.mkdir(folder)
    b = Browser(folder)
    try:
        is_filled_at_once(b)
        say('filled')
        leader = shows_the_cluster(b)
        say('live')
        hears_at_once(b)
        browses(b)
        edits_and_restores_with_the_keyboard(b)
        markup_stays_text(b)
        say('markup stays text')
        fits(b, shots)
        say('fits at 375, 768 and 1280 px, light and dark')
        nothing_jumps(b)
        say('nothing jumps')
        shows_locks(b)
        say('locks')
        leader_is_killed(b, leader)
        its_own_node_is_killed(b)
        say('its own node: a banner, and back')
        asked_nobody_else(b)
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        b.tell()
        if shots:
            b.screenshot(os.path.join(shots, 'failed.png'))
        raise
    finally:
        b.close()
    say('done')


BEGIN = time.monotonic()
main()
