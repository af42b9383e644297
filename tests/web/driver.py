"""A headless Chromium, driven over WebDriver (chromedriver, W3C): what the tests of the page need of it."""
import base64
import json
import os
import shutil
import signal
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


class ScriptError(AssertionError):
    """What the browser has answered instead of a value: the page may be amid a change."""


LIMIT = 40  # seconds: what takes so long does not come


def wait_for(what, condition, limit=LIMIT):
    """What the condition gives as soon as that is true; after `limit` seconds an error that tells what it gave last."""
    end = time.monotonic() + limit
    while True:
        try:
            got = condition()
        except ScriptError as error:
            got = None
            last = str(error)
        else:
            last = repr(got)
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError('not within %g s: %s; the last look gave %s' % (limit, what, last))
        time.sleep(0.02)  # between two looks at the condition


def ends(pids, limit):
    """Whether none of them is there any more, after `limit` seconds at the latest."""
    try:
        wait_for('an end', lambda: not pids(), limit)
    except AssertionError:
        return False
    return True


class Browser:
    def __init__(self, folder, width=1280, height=900, dark=False, still=False):
        self.port = free_port()
        self.folder = folder
        self.session = None
        self.log_path = os.path.join(folder, 'chromedriver.log')
        profile = os.path.join(folder, 'profile')
        for name in ('home', 'tmp'):
            os.makedirs(os.path.join(folder, name), exist_ok=True)
        # Nothing of who runs this: no terminal, no pipe that a child could keep open, no session bus, no settings.
        environment = {'PATH': os.environ['PATH'], 'HOME': os.path.join(folder, 'home'), 'TMPDIR': os.path.join(folder, 'tmp'),
                       'XDG_RUNTIME_DIR': os.path.join(folder, 'tmp'), 'LANG': 'C.UTF-8', 'DBUS_SESSION_BUS_ADDRESS': 'disabled:'}
        with open(self.log_path, 'wb') as log:
            self.process = subprocess.Popen([shutil.which('chromedriver'), '--port=%d' % self.port], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True, env=environment)
        try:
            self._begin(profile, width, height)
            self.size(width, height)
            self.media(dark, still)
        except BaseException:
            self.close()
            with open(self.log_path, encoding='utf-8', errors='replace') as log:
                print('chromedriver: ' + log.read()[-3000:])
            raise

    def _begin(self, profile, width, height):
        wait_for('chromedriver answers', self._is_up)
        args = ['--headless=new', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--no-default-browser-check',
                '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-extensions',
                '--disable-breakpad', '--disable-crash-reporter', '--password-store=basic', '--disable-background-timer-throttling',
                '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding', '--no-proxy-server',
                '--hide-scrollbars', '--user-data-dir=' + profile, '--window-size=%d,%d' % (width, height)]
        if os.geteuid() == 0:
            args.append('--no-sandbox')  # which Chromium refuses to root
        session = self._call('POST', '/session', {'capabilities': {'alwaysMatch': {
            'browserName': 'chrome', 'timeouts': {'script': 30000, 'pageLoad': 60000},
            'goog:chromeOptions': {'args': args, 'perfLoggingPrefs': {'enableNetwork': True, 'enablePage': False}},
            'goog:loggingPrefs': {'browser': 'ALL', 'performance': 'ALL'}}}}, 120)
        self.session = '/session/' + session['sessionId']

    def _is_up(self):
        if self.process.poll() is not None:
            raise AssertionError('chromedriver ended')
        try:
            return self._call('GET', '/status', None, 10)['ready']
        except AssertionError:
            return False

    def _call(self, method, path, body, limit=70):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request('http://127.0.0.1:%d%s' % (self.port, path), data, {'Content-Type': 'application/json'}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=limit) as answer:
                return json.load(answer)['value']
        except urllib.error.HTTPError as error:
            raise ScriptError('%s: %s' % (path, json.load(error)['value']['message'][:400])) from None
        except OSError as error:
            raise AssertionError('%s %s: chromedriver does not answer: %s' % (method, path, error)) from None

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

    def tell(self):
        """For who reads the log of a failure: what the page shows and what its console says."""
        for name, look in (('page', lambda: self.js('return location.href + "\\n" + document.body.innerText')[:6000]),
                           ('console', lambda: '\n'.join(line['message'] for line in self.logs('browser')[-30:]))):
            try:
                print('%s: %s' % (name, look()), flush=True)
            except AssertionError as error:
                print('%s: %s' % (name, error), flush=True)

    def _processes(self):
        """chromedriver, the browser and all that belongs to them: of its session, or with its folder in the command line."""
        found = []
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open('/proc/%s/stat' % pid, encoding='ascii', errors='replace') as f:
                    state, _, _, session = f.read().rsplit(')', 1)[1].split()[:4]
                with open('/proc/%s/cmdline' % pid, 'rb') as f:
                    line = f.read()
            except OSError:
                continue  # it has ended
            ours = int(session) == self.process.pid or os.fsencode(self.folder + '/') in line
            if ours and state != 'Z' and int(pid) != os.getpid():
                found.append(int(pid))
        return found

    def close(self):
        """None of its processes is there afterwards, whatever state they are in."""
        try:
            if self.session:
                self._call('DELETE', self.session, None, 15)
        except AssertionError as error:
            print('the browser does not end by itself: %s' % error, flush=True)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._processes():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass  # it has ended
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                continue
            if ends(self._processes, 10):
                return
        print('left over: %s' % self._processes(), flush=True)
