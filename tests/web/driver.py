"""A headless Chromium, driven over WebDriver (chromedriver, W3C): what the tests of the page need of it."""
import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

KEYS = {'Tab': '\ue004', 'Enter': '\ue007', 'Escape': '\ue00c', 'Shift': '\ue008', 'Control': '\ue009', 'Space': ' ', 'Null': '\ue000', 'Backspace': '\ue003'}


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def wait_for(what, condition, limit=10):
    """What the condition gives as soon as that is true; after `limit` seconds an error."""
    end = time.monotonic() + limit
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError('not within %g s: %s' % (limit, what))
        time.sleep(0.02)  # between two looks at the condition


class Browser:
    def __init__(self, folder, width=1280, height=900, dark=False, still=False):
        self.port = free_port()
        self.log = open(os.path.join(folder, 'chromedriver.log'), 'wb')
        self.process = subprocess.Popen([shutil.which('chromedriver'), '--port=%d' % self.port], stdout=self.log, stderr=self.log,
                                        start_new_session=True)
        self.session = None
        wait_for('chromedriver answers', self._is_up)
        args = ['--headless=new', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking',
                '--disable-component-update', '--disable-sync', '--disable-extensions', '--no-proxy-server', '--hide-scrollbars',
                '--user-data-dir=' + os.path.join(folder, 'profile-%d' % self.port), '--window-size=%d,%d' % (width, height)]
        if os.geteuid() == 0:
            args.append('--no-sandbox')  # which Chromium refuses to root
        session = self._call('POST', '/session', {'capabilities': {'alwaysMatch': {
            'browserName': 'chrome', 'goog:chromeOptions': {'args': args},
            'goog:loggingPrefs': {'browser': 'ALL', 'performance': 'ALL'}}}})
        self.session = '/session/' + session['sessionId']
        self.size(width, height)
        self.media(dark, still)

    def _is_up(self):
        if self.process.poll() is not None:
            raise AssertionError('chromedriver ended')
        try:
            return self._call('GET', '/status', None)['ready']
        except OSError:
            return False

    def _call(self, method, path, body):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request('http://127.0.0.1:%d%s' % (self.port, path), data, {'Content-Type': 'application/json'}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)['value']
        except urllib.error.HTTPError as error:
            raise AssertionError('%s: %s' % (path, json.load(error)['value']['message'][:400])) from None

    def call(self, method, path, body=None):
        return self._call(method, self.session + path, {} if body is None and method == 'POST' else body)

    def cdp(self, command, **params):
        return self.call('POST', '/goog/cdp/execute', {'cmd': command, 'params': params})

    def size(self, width, height):
        self.cdp('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, dark, still):
        self.cdp('Emulation.setEmulatedMedia', features=[
            {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'},
            {'name': 'prefers-reduced-motion', 'value': 'reduce' if still else 'no-preference'}])

    def open(self, url):
        self.call('POST', '/url', {'url': url})

    def js(self, script, *args):
        return self.call('POST', '/execute/sync', {'script': script, 'args': list(args)})

    def text(self, selector):
        return self.js('const e = document.querySelector(arguments[0]); return e ? e.innerText : null', selector)

    def press(self, *keys):
        """Keys as a keyboard has them: names of KEYS, or text; 'Control+a' holds one down."""
        actions = []
        for key in keys:
            if '+' in key and len(key) > 1:
                held, key = key.split('+', 1)
                actions += [{'type': 'keyDown', 'value': KEYS[held]}]
                actions += [{'type': t, 'value': KEYS.get(key, key)} for t in ('keyDown', 'keyUp')]
                actions += [{'type': 'keyUp', 'value': KEYS[held]}]
            else:
                for c in [KEYS[key]] if key in KEYS else key:
                    actions += [{'type': 'keyDown', 'value': c}, {'type': 'keyUp', 'value': c}]
        self.call('POST', '/actions', {'actions': [{'type': 'key', 'id': 'keyboard', 'actions': actions}]})

    def logs(self, kind):
        return self.call('POST', '/se/log', {'type': kind})

    def screenshot(self, path, whole=True):
        height = self.js('return document.documentElement.scrollHeight') if whole else None
        if whole:
            width = self.js('return innerWidth')
            old = self.js('return innerHeight')
            self.size(width, height)
        with open(path, 'wb') as f:
            f.write(base64.b64decode(self.call('GET', '/screenshot')))
        if whole:
            self.size(width, old)

    def close(self):
        try:
            if self.session:
                self._call('DELETE', self.session, None)
        finally:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.log.close()
