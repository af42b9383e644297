#include "tests/fault/lib/sshd.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned sshd_find(const struct cluster *c, unsigned node, pid_t *pids, unsigned max)
{
    char configuration[200];
    struct dirent *entry;
    unsigned n = 0, round;

    snprintf(configuration, sizeof configuration, "%s/ssh/sshd_config", c->nodes[node].data);
    for (round = 0; round < 2; round++) {
        DIR *dir = opendir("/proc");
        unsigned listeners = n;

        while (dir != NULL && (entry = readdir(dir)) != NULL && n < max) {
            char path[300], text[1024] = "";
            int parent = 0;
            FILE *f;
            size_t len, i;

            if (!isdigit((unsigned char)entry->d_name[0]))
                continue;
            snprintf(path, sizeof path, "/proc/%s/%s", entry->d_name, round == 0 ? "cmdline" : "status");
            f = fopen(path, "re");
            len = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
            if (f != NULL)
                fclose(f);
            for (i = 0; i < len; i++)
                text[i] = text[i] == '\0' ? ' ' : text[i];
            if (round == 0) {
                if (strstr(text, "sshd") != NULL && strstr(text, configuration) != NULL)
                    pids[n++] = (pid_t)atoi(entry->d_name);
                continue;
            }
            if (strstr(text, "PPid:") != NULL)
                parent = atoi(strstr(text, "PPid:") + 5);
            for (i = 0; i < listeners && n < max; i++)
                if (parent == pids[i])
                    pids[n++] = (pid_t)atoi(entry->d_name);
        }
        if (dir != NULL)
            closedir(dir);
    }
    return n;
}
