/* Measurements: latencies, and the disk's floor. */
#ifndef KVFS_KVNODE_ADMIN_BENCH_H
#define KVFS_KVNODE_ADMIN_BENCH_H

#include <stddef.h>
#include <stdint.h>

struct samples {
    uint32_t *us10; /* owned; tenths of microseconds */
    size_t n, cap;
    uint64_t elapsed_ns; /* of the whole measurement */
};

/* 0 or -ENOMEM. */
int samples_add(struct samples *s, uint64_t ns);
void samples_sort(struct samples *s);
/* Of sorted samples, microseconds; q from 0 to 1. */
double samples_quantile(const struct samples *s, double q);
double samples_per_second(const struct samples *s);
void samples_deinit(struct samples *s);

/* What the disk itself can do: pwrite of 128 bytes and fdatasync, one after the
 * other, into a file in dir that was written in full before. The file is removed.
 * 0 or -errno. */
int bench_floor(const char *dir, unsigned seconds_ms, struct samples *s_out);

struct request_link;
/* How long after the answer to a set a watcher at another node of this machine has it; its name. The link has
 * a session. 0, KV_E_*, -errno. */
int bench_watch(struct request_link *writer, const char *key, uint64_t seconds, struct samples *s_out,
                char *node_out, size_t size);

#endif
