/* Everything that a peer does not need is off, twice where possible: `restrict`
 * in authorized_keys takes a key's rights, and the lines here take everybody's.
 *
 * StrictModes. sshd refuses an authorized_keys file below any directory that
 * others may write to, /tmp included, although the sticky bit keeps them from
 * replacing what is ours. A cluster for trying out lives just there. So the path
 * is judged here by the same rule with that one exception, StrictModes stays on
 * where it would pass, and is off only below a sticky directory; a path that
 * others can really write to is refused. */
#include "sync/ssh/sshd_config.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/base/buffer.h"
#include "sync/ssh/session.h"

enum path_safety sshd_path_safety(const char *path, char *culprit_out, size_t size)
{
    enum path_safety result = PATH_SAFE;
    char dir[PATH_MAX], real[PATH_MAX];
    char *slash;
    struct stat st;

    if (snprintf(dir, sizeof dir, "%s", path) >= (int)sizeof dir)
        return PATH_EXPOSED;
    /* The file may come later, its directory is there. */
    if (realpath(dir, real) == NULL) {
        slash = strrchr(dir, '/');
        if (slash == NULL || slash == dir)
            return PATH_EXPOSED;
        *slash = '\0';
        if (realpath(dir, real) == NULL)
            snprintf(real, sizeof real, "%s", dir);
    }
    for (;;) {
        snprintf(culprit_out, size, "%s", real);
        if (stat(real, &st) < 0 || (st.st_uid != 0 && st.st_uid != geteuid()))
            return PATH_EXPOSED;
        if ((st.st_mode & 022) != 0) {
            if (!S_ISDIR(st.st_mode) || (st.st_mode & S_ISVTX) == 0)
                return PATH_EXPOSED;
            result = PATH_STICKY;
        }
        if (strcmp(real, "/") == 0)
            break;
        slash = strrchr(real, '/');
        slash[slash == real ? 1 : 0] = '\0';
    }
    return result;
}

__attribute__((format(printf, 2, 3))) static void line(struct buffer *b, const char *fmt, ...)
{
    char text[PATH_MAX + 64];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text) {
        b->failed = true;
        return;
    }
    buffer_put_bytes(b, text, (size_t)n);
    buffer_put_bytes(b, "\n", 1);
}

void sshd_config_write(const struct sshd_config *c, const char *user, bool strict_modes,
                       bool source_penalties, struct buffer *b)
{
    static const char *const fixed[] = {
        "AuthenticationMethods publickey",
        "PubkeyAuthentication yes",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "HostbasedAuthentication no",
        "AuthorizedKeysCommand none",
        "AuthorizedPrincipalsFile none",
        "PubkeyAcceptedAlgorithms ssh-ed25519",
        "HostKeyAlgorithms " SSH_HOST_KEY_ALGORITHMS,
        "KexAlgorithms " SSH_KEX_ALGORITHMS,
        "Ciphers " SSH_CIPHERS,
        "MACs " SSH_MACS,
        "Compression no",
        "DisableForwarding yes",
        "AllowTcpForwarding no",
        "AllowStreamLocalForwarding no",
        "AllowAgentForwarding no",
        "GatewayPorts no",
        "X11Forwarding no",
        "PermitTunnel no",
        "PermitTTY no",
        "PermitUserEnvironment no",
        "PermitUserRC no",
        /* bash reads ~/.bashrc under sshd, unless it believes to be a subshell:
         * 90 ms a connection (m), and whatever that file prints would be the
         * first bytes of the stream. */
        "SetEnv SHLVL=1",
        "PermitEmptyPasswords no",
        "PrintMotd no",
        "PrintLastLog no",
        "Banner none",
        "UseDNS no",
        "MaxStartups 100",
        "MaxSessions 1",
        "MaxAuthTries 3",
        "LoginGraceTime 10",
        "TCPKeepAlive yes",
        "ClientAliveInterval 15",
        "ClientAliveCountMax 3",
    };

    line(b, "# Written at each start by the node; changes are lost.");
    if (c->extra != NULL)
        line(b, "%s", c->extra);
    line(b, "Port %u", c->port);
    line(b, strchr(c->listen_address, ':') != NULL ? "ListenAddress [%s]:%u" : "ListenAddress %s:%u",
         c->listen_address, c->port);
    line(b, "HostKey %s", c->host_key_path);
    line(b, "AuthorizedKeysFile %s", c->authorized_keys_path);
    line(b, "PidFile %s/sshd.pid", c->run_dir);
    line(b, "LogLevel %s", c->log_level);
    /* A name like user@domain would be read as a pattern. It is never root's, and
     * an sshd that is not root's can let in its own user only. */
    if (strpbrk(user, "@*?!, \t") == NULL)
        line(b, "AllowUsers %s", user);
    line(b, "PermitRootLogin %s", strcmp(user, "root") == 0 ? "forced-commands-only" : "no");
    line(b, "StrictModes %s", strict_modes ? "yes" : "no");
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        line(b, "%s", fixed[i]);
    if (source_penalties)
        line(b, "PerSourcePenalties no");
}
