/* The form of a configuration file: inih, made strict.
 *
 *   # or ; begins a comment line, " ;" a comment at a line's end
 *   [section]
 *   name = value
 *
 * inih by itself cuts lines at 200 bytes, takes an indented line for the
 * previous one's continuation, ignores what follows a "]", and never mentions a
 * section without names. Here each of these is an error or reported. */
#ifndef KVFS_KVNODE_CONFIG_CONFIG_FILE_H
#define KVFS_KVNODE_CONFIG_CONFIG_FILE_H

#include <stddef.h>

/* Both return 0, or -EINVAL with a clause in why_out (without file and line), or
 * -ENOMEM. Strings are borrowed for the call. */
struct config_file_callbacks {
    void *arg;
    int (*on_section)(void *arg, const char *section, unsigned line, char *why_out, size_t why_size);
    int (*on_value)(void *arg, const char *section, const char *name, const char *value, unsigned line,
                    char *why_out, size_t why_size);
};

/* 0; -EINVAL with "FILE:LINE: why" in message_out, at the first wrong line;
 * -ENOMEM. */
int config_file_parse(const char *text, size_t len, const char *file,
                      const struct config_file_callbacks *callbacks, char *message_out, size_t message_size);

#endif
