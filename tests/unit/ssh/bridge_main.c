/* The forced command of the tests: `ssh_test_bridge bridge --peer n1 --socket PATH`. */
#include <stdio.h>
#include <string.h>

#include "sync/ssh/bridge.h"

int main(int argc, char **argv)
{
    if (argc != 6 || strcmp(argv[1], "bridge") != 0 || strcmp(argv[2], "--peer") != 0 ||
        strcmp(argv[4], "--socket") != 0) {
        fprintf(stderr, "usage: ssh_test_bridge bridge --peer NAME --socket PATH\n");
        return BRIDGE_EXIT_USAGE;
    }
    return bridge_run(argv[3], argv[5]);
}
