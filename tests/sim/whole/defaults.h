/* The engine's settings that a run draws. A header of its own: the engine's names
 * and those of sync/wire/message.h do not go together. */
#ifndef KVFS_TESTS_SIM_WHOLE_DEFAULTS_H
#define KVFS_TESTS_SIM_WHOLE_DEFAULTS_H

#include <stdbool.h>
#include <stdint.h>

struct engine_defaults {
    uint32_t trailing, trim_step, max_inflight;
    bool pre_vote;
};
extern struct engine_defaults engine_defaults;

#endif
