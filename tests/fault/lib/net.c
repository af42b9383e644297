#include "tests/fault/lib/net.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/fault/lib/cluster.h"

/* Runs ip(8) with the words of the text. */
__attribute__((format(printf, 1, 2))) static bool ip(const char *fmt, ...)
{
    const char *argv[32] = {"ip"};
    char words[256], out[512], *save = NULL, *word;
    size_t n = 1;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    for (word = strtok_r(words, " ", &save); word != NULL && n < 31; word = strtok_r(NULL, " ", &save))
        argv[n++] = word;
    argv[n] = NULL;
    return run_program(argv, 5000, out, sizeof out) == 0;
}

void net_name(unsigned net, unsigned i, char *out, size_t size)
{
    snprintf(out, size, "kvf%u-%u", net, i + 1);
}

void net_address(unsigned net, unsigned i, char *out, size_t size)
{
    (void)net; /* every test has a bridge of its own, in a namespace */
    snprintf(out, size, "10.91.0.%u:7022", i + 1);
}

unsigned net_new(unsigned n)
{
    unsigned net = (unsigned)getpid() % 100000 + 1, i;
    bool ok;

    ok = ip("netns add kvf%u-b", net) && ip("-n kvf%u-b link add name br0 type bridge", net) &&
         ip("-n kvf%u-b link set br0 up", net);
    for (i = 0; ok && i < n; i++) {
        char name[32];

        net_name(net, i, name, sizeof name);
        ok = ip("netns add %s", name) &&
             ip("-n kvf%u-b link add p%u type veth peer name e0 netns %s", net, i + 1, name) &&
             ip("-n kvf%u-b link set p%u master br0 up", net, i + 1) &&
             ip("-n %s addr add 10.91.0.%u/24 dev e0", name, i + 1) && ip("-n %s link set e0 up", name) &&
             ip("-n %s link set lo up", name);
    }
    if (ok)
        return net;
    net_free(net, n);
    return 0;
}

void net_free(unsigned net, unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++) {
        char name[32];

        net_name(net, i, name, sizeof name);
        ip("netns del %s", name);
    }
    ip("netns del kvf%u-b", net);
}

bool net_cut(unsigned net, unsigned i, bool cut)
{
    return ip("-n kvf%u-b link set p%u %s", net, i + 1, cut ? "nomaster" : "master br0");
}

bool net_cut_way(unsigned net, unsigned from, unsigned to, bool cut)
{
    char name[32];

    net_name(net, from, name, sizeof name);
    /* The address of no machine: the bridge takes the packets to everyone, and nobody wants them. */
    if (cut)
        return ip("-n %s neigh replace 10.91.0.%u lladdr 02:00:00:00:00:99 nud permanent dev e0", name,
                  to + 1);
    return ip("-n %s neigh del 10.91.0.%u dev e0", name, to + 1);
}
