/* kvnode has no setting for what would make state files rare in a short run. */
#include "sync/raft/engine/engine.h"

#include "tests/sim/whole/defaults.h"

struct engine_defaults engine_defaults;

void __real_engine_config_defaults(struct engine_config *c);
void __wrap_engine_config_defaults(struct engine_config *c);

void __wrap_engine_config_defaults(struct engine_config *c)
{
    __real_engine_config_defaults(c);
    c->trailing = engine_defaults.trailing;
    c->trim_step = engine_defaults.trim_step;
    c->max_inflight = engine_defaults.max_inflight;
    c->pre_vote = engine_defaults.pre_vote;
}
