#include "sync/wire/feature.h"

unsigned feature_level_of(const struct command *cmd)
{
    if ((cmd->flags & COMMAND_FENCE) != 0)
        return 3;
    if ((cmd->flags & COMMAND_LABEL) != 0)
        return COMMAND_LABEL_LEVEL;
    if ((cmd->flags & COMMAND_TTL) != 0)
        return 2;
    switch (cmd->op) {
    case COMMAND_EXPIRE:
    case COMMAND_TXN:
    case COMMAND_MKNOD:
    case COMMAND_SETXATTR:
    case COMMAND_REMOVEXATTR:
    case COMMAND_LINK:
        return 2;
    case COMMAND_LOCK_TAKE:
    case COMMAND_LOCK_PUT:
        return 3;
#ifdef KVFS_NEXT_LEVEL
    case COMMAND_NEXT:
        return 4;
#endif
    case COMMAND_LOCK:
    case COMMAND_UNLOCK:
    case COMMAND_UNWAIT:
        return 2;
    default:
        return 1;
    }
}
