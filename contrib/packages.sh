#!/bin/sh
# Installs the Debian packages that are missing, and nothing else.
#
#   contrib/packages.sh          to build and to run
#   contrib/packages.sh --test   also to test
#   contrib/packages.sh --dev    also what a developer and CI need
#   contrib/packages.sh --list   prints the names of what is missing
#
# As root, or through sudo when something is missing. libraft 0.22 is in Debian 13
# and in Debian 12's backports; where it cannot be had, an entry for backports is
# derived from this machine's own Debian source entry (same mirror, same key).
set -eu

level=run
list=no
for arg; do
    case $arg in
    --test) level='test' ;;
    --dev) level=dev ;;
    --list) list=yes ;;
    *)
        echo "usage: contrib/packages.sh [--test|--dev] [--list]" >&2
        exit 2
        ;;
    esac
done

log=${KVFS_PACKAGES_LOG:-/dev/stderr}

die() {
    echo "packages: $*" >&2
    exit 1
}

{ command -v dpkg-query && command -v apt-get; } >/dev/null ||
    die "this is no Debian system; install by hand what contrib/packages.sh names"

wanted='gcc libc6-dev meson ninja-build pkg-config libuv1-dev libsqlite3-dev libraft-dev libssh2-1-dev libssl-dev
    libfuse3-dev fuse3 libxxhash-dev libinih-dev libjansson-dev libbsd-dev uthash-dev libmicrohttpd-dev
    openssh-server openssh-client'
[ $level = run ] || wanted="$wanted libcmocka-dev curl python3 vim nano rsync git sqlite3 strace procps util-linux e2fsprogs attr"
[ $level != dev ] || wanted="$wanted clang libclang-rt-dev clang-format clang-tidy shellcheck scdoc man-db ca-certificates
    chromium chromium-driver prometheus nginx-light dnsmasq-base"

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

raft_is_new() {
    dpkg --compare-versions "${1:-0}" ge 0.22
}

missing=
for package in $wanted; do
    if [ "$package" = libraft-dev ]; then
        # 0.15 of Debian 12's main suite loses data; meson.build refuses it too.
        raft_is_new "$(dpkg-query -W -f='${Version}' libraft-dev 2>/dev/null)" && installed libraft-dev && continue
    elif installed "$package"; then
        continue
    fi
    missing="$missing $package"
done

if [ $list = yes ]; then
    for package in $missing; do echo "$package"; done
    exit 0
fi
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "these packages are missing, and there is neither root nor sudo:$missing
Install them as root: apt-get install$missing (libraft-dev 0.22 or later)"
    sudo=sudo
    sudo -v || die "sudo refused; install as root:$missing"
fi

entry=
policy=
cleanup() {
    [ -z "$entry" ] || rm -f "$entry"
    [ -z "$policy" ] || $sudo rm -f "$policy"
}
trap cleanup EXIT

# Servers that only tests use (nginx, prometheus) are not to be started by being installed.
if [ $level = dev ] && [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
fi

apt() {
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" </dev/null >>"$log" 2>&1
}

codename() {
    # shellcheck disable=SC1091
    (. /etc/os-release && echo "${VERSION_CODENAME:-}")
}

# Versions of libraft-dev that apt knows: "VERSION SUITE" lines.
raft_versions() {
    apt-cache madison libraft-dev 2>/dev/null | awk -F'|' '{ gsub(/ /, "", $2); split($3, at, " "); print $2, at[2] }'
}

# The suite that has a good libraft, "-" for one that apt takes by itself.
raft_suite() {
    candidate=$(apt-cache policy libraft-dev 2>/dev/null | awk '$1 == "Candidate:" { print $2 }')
    if [ "$candidate" != "(none)" ] && raft_is_new "$candidate"; then
        echo -
        return
    fi
    raft_versions | while read -r version suite; do
        if raft_is_new "$version"; then
            echo "${suite%%/*}"
            break
        fi
    done
}

# The machine's own entry for its suite, rewritten for backports: deb822 stanzas,
# or one-line entries, whichever there is.
derive_entry() { # SUITE
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -r "$file" ] || continue
        awk -v suite="$1" -v RS= '
            {
                found = 0
                n = split($0, line, "\n")
                out = ""
                for (i = 1; i <= n; i++) {
                    if (line[i] ~ /^#/ || tolower(line[i]) ~ /^enabled:[ \t]*no/) {
                        if (line[i] !~ /^#/) next
                        continue
                    }
                    if (tolower(line[i]) ~ /^suites:/) {
                        m = split(line[i], word, /[ \t]+/)
                        for (j = 2; j <= m; j++) if (word[j] == suite) found = 1
                        line[i] = "Suites: " suite "-backports"
                    }
                    if (tolower(line[i]) ~ /^types:/) line[i] = "Types: deb"
                    out = out line[i] "\n"
                }
                if (found) { printf "%s", out; exit }
            }' "$file" >"$entry"
        if [ -s "$entry" ]; then
            echo sources
            return
        fi
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -r "$file" ] || continue
        awk -v suite="$1" '
            $1 == "deb" {
                at = 2
                if ($2 ~ /^\[/) { while (at <= NF && $at !~ /\]$/) at++; at++ }
                if ($(at + 1) != suite) next
                $(at + 1) = suite "-backports"
                print
                exit
            }' "$file" >"$entry"
        if [ -s "$entry" ]; then
            echo list
            return
        fi
    done
}

# Lists may be absent (a fresh image) or old; an update that fails for one of
# several sources need not matter.
apt update || echo "packages: apt-get update reported errors; going on" >>"$log"

case " $missing " in
*" libraft-dev "*)
    suite=$(raft_suite)
    if [ -z "$suite" ]; then
        entry=$(mktemp)
        code=$(codename)
        [ -n "$code" ] || die "no VERSION_CODENAME in /etc/os-release: install libraft-dev 0.22 or later by hand"
        kind=$(derive_entry "$code")
        [ -n "$kind" ] || die "found no Debian source entry for $code to derive its backports from.
Add $code-backports to apt's sources and run this again"
        target=/etc/apt/sources.list.d/kvfs-backports.$kind
        $sudo install -m 644 "$entry" "$target" || die "cannot write $target"
        echo "packages: added $target" >>"$log"
        apt update || echo "packages: apt-get update reported errors; going on" >>"$log"
        suite=$(raft_suite)
        [ -n "$suite" ] || die "no suite has libraft-dev 0.22 or later, not even $code-backports ($target)"
    fi
    if [ "$suite" != - ]; then
        # libraft0 of another version would stand in the way.
        apt install --no-install-recommends -t "$suite" libraft-dev ||
            die "apt-get install -t $suite libraft-dev failed; see $log"
        missing=$(printf '%s ' "$missing" | sed 's/ libraft-dev / /')
    fi
    ;;
esac

# shellcheck disable=SC2086
[ -z "${missing# }" ] || apt install --no-install-recommends $missing || die "apt-get install failed; see $log"
