#!/usr/bin/env python3
"""The page /dashboard in a headless Chromium, at the nodes whose addresses are given: NAME=URL…

Run by test_dashboard.sh, which has made the cluster. KVNODE_BIN is the program, SHOTS a folder for screenshots."""
import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from driver import Browser, wait_for  # noqa: E402

NODES = dict(a.split('=', 1) for a in sys.argv[1:])
KVNODE = os.environ['KVNODE_BIN']
EVIL = '<img src=x onerror="window.evil=1"><script>window.evil=1<' + '\\' + '/script>'


def http(url, method='GET', body=None, headers=None):
    request = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def put(key, value, url=None):
    from urllib.parse import quote
    status, _, body = http((url or NODES['n1']) + '/kv/' + quote(key), 'PUT', value.encode())
    assert status in (200, 201), body
    return json.loads(body)


def get(key, url=None):
    return http((url or NODES['n1']) + '/kv/' + key)[2].decode()


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


def shows_the_cluster(b):
    wait_for('the page is live', lambda: b.text('#live') == 'live')
    wait_for('it says which may fail', lambda: b.text('#headline') == 'Any one node may fail.')
    leader = wait_for('one leads', lambda: b.js("const l = document.querySelectorAll('.chip.leader'); return l.length === 1 && l[0].closest('li').dataset.node"))
    same(b.text('#leader'), leader)
    same(b.js("return [...document.querySelectorAll('.node')].map(n => n.dataset.node + ' ' + n.querySelector('.state').textContent)"),
         ['n1 healthy', 'n2 healthy', 'n3 healthy'])
    for node in b.js("return [...document.querySelectorAll('.node dl')].map(n => n.innerText)"):
        assert re.search(r'Lag\s+\S', node) and re.search(r'Up\s+\d', node) and re.search(r'Disk\s+\d.* free of \d', node), node
    return leader


def hears_at_once(b):
    put('app/color', 'blue', NODES['n2'])
    began = time.monotonic()
    put('app/color', 'green\n', NODES['n3'])
    wait_for('an operation shows', lambda: b.js("return document.querySelectorAll('#operation-list a[href=\"#/app/color\"]').length >= 2"), 3)
    say('a write elsewhere shows after %.0f ms' % (1000 * (time.monotonic() - began)))
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
    assert re.match(r'Version 2 · 6\u00a0B · by \S+@n3 · ', b.text('#key-meta')), b.text('#key-meta')


def edits_and_restores_with_the_keyboard(b):
    """From the top of the page, by Tab, Enter and text alone."""
    focus = "const e = document.activeElement; return e ? e.id || e.textContent : ''"

    def tab_to(name, limit=120):
        for _ in range(limit):
            if b.js(focus) == name:
                return
            b.press('Tab')
        raise AssertionError('Tab does not come to %r' % name)

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
    same(b.text('#value pre'), 'turquoise')
    say('edited')

    b.press('Enter')  # the focus is on Edit again
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
    b.js("document.querySelector('#edit').focus()")
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

    b.js("document.querySelector('#delete').focus()")
    b.press('Enter')
    wait_for('it asks before it deletes', lambda: b.js(focus) == 'dialog-cancel')
    b.press('Tab', 'Enter')
    wait_for('it is deleted', lambda: 'An older version can be restored' in (b.text('#value') or ''))
    same(http(NODES['n2'] + '/kv/app/color')[0], 404)
    b.js("document.querySelector('[data-version=\"4\"] button').click()")
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
            wait_for('the page is live', lambda: b.text('#live') == 'live')
            wait_for('the value', lambda: b.text('#value pre') == 'theirs')
            assert b.js('return document.documentElement.scrollWidth <= innerWidth'), 'it scrolls sideways at %d px' % width
            wide = b.js('return [...document.querySelectorAll("main *")].filter(e => e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".track, svg, .scroll")).map(e => e.outerHTML.slice(0, 80))')
            same(wide, [])
            same(b.js(contrast), [])
            if shots:
                b.screenshot(os.path.join(shots, '%s-%d.png' % ('dark' if dark else 'light', width)))
        dark_of[dark] = b.js('return getComputedStyle(document.body).backgroundColor')
        same(b.js('return document.getAnimations().filter(a => a.playState === "running").length'), 0)
    assert dark_of[False] != dark_of[True], dark_of
    b.media(False, False)


def shows_locks(b):
    """If a mount can be made here: a lock of a mount, with its key and who holds it."""
    if not os.path.exists('/dev/fuse'):
        say('no /dev/fuse: locks of mounts are not looked at')
        return
    with tempfile.TemporaryDirectory(prefix='kvfs-web-', ignore_cleanup_errors=True) as point:
        subprocess.run([os.environ['KVFS_BIN'], 'n1,n2,n3', point], check=True, timeout=30)
        try:
            with open(point + '/app/color', 'r+', encoding='utf-8') as f:
                fcntl.flock(f, fcntl.LOCK_EX)
                wait_for('the lock', lambda: 'app/color' in (b.text('#lock-list') or ''))
                text = b.text('#lock-list')
                assert 'holds' in text and 'exclusive, whole file, by process %d at ' % os.getpid() in text, text
                assert re.match(r'[1-9]', b.js("return document.querySelector('#watches dd').textContent"))
            wait_for('it has gone', lambda: b.text('#lock-list') == '' and b.text('#locks-empty') == 'No file is locked.')
        finally:
            subprocess.run(['fusermount3', '-u', '-z', point], check=False, timeout=10)


def nothing_jumps(b):
    """An update moves nothing."""
    b.open('about:blank')
    b.open(NODES['n1'] + '/dashboard')
    wait_for('the page is live', lambda: b.text('#live') == 'live')
    wait_for('the authors are there', lambda: b.js("return document.querySelectorAll('#key-rows [data-key]').length > 0"))
    b.js("window.shift = 0; new PerformanceObserver(l => { for (const e of l.getEntries()) if (!e.hadRecentInput) window.shift += e.value; }).observe({ type: 'layout-shift', buffered: false })")
    was = b.text('#rate-line') or b.js("return document.querySelector('#rate-line .line:not(.upper)').getAttribute('d')")
    for i in range(20):
        put('app/new key', 'fresh %d' % i)
    wait_for('it has been updated', lambda: b.js("return document.querySelector('#rate-line .line:not(.upper)').getAttribute('d')") != was)
    wait_for('and again', lambda: re.match(r'[1-9]', b.text('#rate')), 5)
    shift = b.js('return window.shift')
    assert shift < 0.02, 'what was there has moved: %g' % shift


def leader_is_killed(b, leader):
    other = next(n for n in NODES if n != leader)
    b.open(NODES[other] + '/dashboard')
    wait_for('the page is live', lambda: b.text('#live') == 'live')
    began = time.monotonic()
    subprocess.run([KVNODE, 'dev', 'kill', leader], check=True, stdout=subprocess.DEVNULL)
    wait_for('the page says that it is gone', lambda: b.js("return document.querySelector('[data-node=\"%s\"] .state').textContent" % leader) == 'unreachable', 3)
    wait_for('and names the new leader', lambda: b.js("const l = document.querySelectorAll('.chip.leader'); return l.length === 1 && l[0].closest('li').dataset.node !== '%s'" % leader),
             3 - (time.monotonic() - began))
    took = time.monotonic() - began
    wait_for('in words', lambda: b.text('#headline') == 'No further node may fail.' and leader + ' is unreachable' in b.text('#detail'))
    wait_for('and in the time line', lambda: len(b.js("return [...document.querySelectorAll('#changes li')].map(l => l.innerText)")) >= 2 and b.js("return document.querySelectorAll('#track .gap').length") >= 1)
    assert took <= 3, took
    say('the killed leader shows, and the new one, after %.1f s' % took)
    put('app/after', 'x', NODES[other])
    wait_for('it is live all the same', lambda: b.js("return document.querySelector('#operation-list a[href=\"#/app/after\"]') !== null"), 5)
    subprocess.run([KVNODE, 'dev', 'start', leader], check=True, stdout=subprocess.DEVNULL)
    wait_for('it is back', lambda: b.text('#headline') == 'Any one node may fail.', 15)


def its_own_node_is_killed(b):
    b.open(NODES['n1'] + '/dashboard#/app/color')
    wait_for('the page is live', lambda: b.text('#live') == 'live')
    wait_for('others are known', lambda: b.text('#headline') == 'Any one node may fail.')
    subprocess.run([KVNODE, 'dev', 'kill', 'n1'], check=True, stdout=subprocess.DEVNULL)
    wait_for('a banner', lambda: (b.text('#banner-text') or '').startswith('n1 does not answer') and not b.js("return document.querySelector('#banner').hidden"), 3)
    same(b.js("return [...document.querySelectorAll('#banner-others a')].map(a => a.href)"), [NODES[n] + '/dashboard#/app/color' for n in ('n2', 'n3')])
    same(b.text('#live'), 'not reached')
    subprocess.run([KVNODE, 'dev', 'start', 'n1'], check=True, stdout=subprocess.DEVNULL)
    wait_for('it is live again by itself', lambda: b.text('#live') == 'live' and b.js("return document.querySelector('#banner').hidden"), 20)
    put('app/back', 'x', NODES['n2'])
    wait_for('and hears', lambda: b.js("return document.querySelector('#operation-list a[href=\"#/app/back\"]') !== null"), 5)


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
    with tempfile.TemporaryDirectory(prefix='kvfs-web-', ignore_cleanup_errors=True) as folder:
        b = Browser(folder)
        try:
            b.open(NODES['n1'] + '/dashboard')
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
            shows_locks(b)
            say('locks')
            leader_is_killed(b, leader)
            its_own_node_is_killed(b)
            say('its own node: a banner, and back')
            asked_nobody_else(b)
        except BaseException:
            for line in b.logs('browser')[-20:]:
                print('browser: ' + line['message'])
            if shots:
                b.screenshot(os.path.join(shots, 'failed.png'))
            raise
        finally:
            b.close()
    say('done')


BEGIN = time.monotonic()
main()
