/* Names in the data directory that more than one part knows. */
#ifndef KVFS_KVNODE_CONFIG_DATA_DIR_H
#define KVFS_KVNODE_CONFIG_DATA_DIR_H

/* A mark: this node was readmitted. */
#define DATA_DIR_READMITTED "readmitted"

#endif
