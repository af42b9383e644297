/* kvnode: the command line, and behind `kvnode run` the node. */
#include "kvnode/admin/admin.h"
#include "kvnode/node/node.h"

int main(int argc, char **argv)
{
    return admin_main(argc, argv, node_run);
}
