/* Fuzzes what comes over a link besides Raft messages: what a bridge says, and
 * both sides of a state file's transfer. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/error.h"
#include "sync/raft/transfer/snapshot_transfer.h"
#include "sync/ssh/handover.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_handover(const uint8_t *data, size_t size)
{
    char name[SSH_PEER_NAME_MAX + 1];

    if (handover_parse(data, size, name) == 0 && (strlen(name) == 0 || size > HANDOVER_MAX))
        abort();
}

/* Messages cut by a length byte each, one after the other to one receiver. */
static void try_receiver(const uint8_t *data, size_t size)
{
    struct snapshot_receiver *r;
    struct buffer reply = BUFFER_INIT;
    char path[64];

    snprintf(path, sizeof path, "/tmp/kvfs-fuzz-%d", (int)getpid());
    if (snapshot_receiver_new(path, &r) != 0)
        return;
    while (size > 1) {
        size_t len = data[0] < size - 1 ? data[0] : size - 1;

        buffer_clear(&reply);
        (void)snapshot_receiver_receive(r, data + 1, len, &reply);
        data += 1 + len;
        size -= 1 + len;
    }
    snapshot_receiver_drop(r);
    snapshot_receiver_free(r);
    buffer_deinit(&reply);
    unlink(path);
}

static void try_sender(const uint8_t *data, size_t size)
{
    struct snapshot_sender *s;
    struct buffer out = BUFFER_INIT;
    struct entry *conf = entry_new(ENTRY_CHANGE, "x", 1);
    struct snapshot_meta meta = {.index = 5, .term = 1, .conf_index = 1, .conf = conf};
    int fd = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);

    if (fd >= 0 && write(fd, data, size) == (ssize_t)size &&
        snapshot_sender_new(fd, 7, 1, &meta, NULL, &s) == 0) {
        while (size > 1) {
            size_t len = data[0] < size - 1 ? data[0] : size - 1;

            buffer_clear(&out);
            (void)snapshot_sender_step(s, &out);
            (void)snapshot_sender_receive(s, data + 1, len);
            data += 1 + len;
            size -= 1 + len;
        }
        snapshot_sender_free(s);
    }
    buffer_deinit(&out);
    entry_put(conf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 3 == 0)
        try_handover(data + 1, size - 1);
    else if (data[0] % 3 == 1)
        try_receiver(data + 1, size - 1);
    else
        try_sender(data + 1, size - 1);
    return 0;
}
