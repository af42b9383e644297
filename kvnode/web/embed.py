#!/usr/bin/env python3
"""Makes C of files: embed.py OUT 'ADDRESS|TYPE|FILE'... (kvnode/web/static.h)."""
import sys

out, files = sys.argv[1], [a.split('|', 2) for a in sys.argv[2:]]
with open(out, 'w', encoding='ascii') as f:
    f.write('#include "kvnode/web/static.h"\n\n')
    for i, (_, _, path) in enumerate(files):
        with open(path, 'rb') as source:
            data = source.read()
        f.write('static const unsigned char file%d[] = {%s};\n' % (i, ','.join(map(str, data)) or '0'))
    f.write('\nconst struct static_file static_files[] = {\n')
    for i, (address, kind, _) in enumerate(files):
        f.write('    {"%s", "%s", file%d, sizeof file%d},\n' % (address, kind, i, i))
    f.write('    {0},\n};\n')
