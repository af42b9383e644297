#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/config/config.h"
#include "kvnode/config/data_dir.h"
#include "kvnode/peer/door.h"
#include "sync/base/disk.h"
#include "sync/base/log.h"

int door_discard(const struct config *config, char *why)
{
    static const char *const files[] = {"log.db-floor",
                                        "log.db",
                                        "log.db-wal",
                                        "log.db-shm",
                                        "log.db.failed",
                                        "log.db.rewrite",
                                        "groups/0/install.meta",
                                        "groups/0/state.db",
                                        "groups/0/state.db-wal",
                                        "groups/0/state.db-shm"};
    char mark[4200], path[4300];
    int rv = 0;

    snprintf(mark, sizeof mark, "%s/" DATA_DIR_READMITTED, config->data_dir);
    if (access(mark, F_OK) != 0)
        return 0;
    for (size_t i = 0; i < sizeof files / sizeof files[0] && rv == 0; i++) {
        snprintf(path, sizeof path, "%s/%s", config->data_dir, files[i]);
        if (unlink(path) != 0 && errno != ENOENT && errno != ENOTDIR)
            rv = -errno;
    }
    if (rv == 0)
        rv = disk_sync_name(mark);
    if (rv == 0 && unlink(mark) != 0)
        rv = -errno;
    if (rv != 0)
        snprintf(why, 512, "%.300s: %s: what was there before the readmission cannot be removed", path,
                 strerror(-rv));
    else
        log_warn("this node was readmitted: it begins anew with an empty log");
    return rv;
}
