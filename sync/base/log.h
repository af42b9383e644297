/* The program's log: one line a message on standard error.
 *
 * Any thread. Lines are written with one write(2), so they never mix. Never
 * log a value: values are secrets. */
#ifndef KVFS_SYNC_BASE_LOG_H
#define KVFS_SYNC_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* name: put before each line ("kvnode n1"), copied, at most 63 bytes. */
void log_open(const char *name, enum log_level level);
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
