/* The functions behind the verbs, one a file. Each returns an exit status. */
#ifndef KVFS_KVNODE_ADMIN_VERBS_H
#define KVFS_KVNODE_ADMIN_VERBS_H

#include "kvnode/admin/admin.h"

int verb_get(struct admin *a);
int verb_txn(struct admin *a);
int verb_publish(struct admin *a);
int verb_set(struct admin *a); /* set and upd */
int verb_del(struct admin *a);
int verb_hold(struct admin *a);
int verb_once(struct admin *a);
int verb_locks(struct admin *a);
int verb_ls(struct admin *a);
int verb_history(struct admin *a);
int verb_restore(struct admin *a);
int verb_watch(struct admin *a);
int verb_log(struct admin *a);
int verb_status(struct admin *a);
int verb_members(struct admin *a);
int verb_readmit(struct admin *a);
int verb_transfer(struct admin *a);
int verb_verify(struct admin *a);
int verb_clock(struct admin *a);
int verb_init(struct admin *a);
int verb_run(struct admin *a);
int verb_config(struct admin *a);
int verb_doctor(struct admin *a);
int verb_bench(struct admin *a);
int verb_dev(struct admin *a);
int verb_bridge(struct admin *a);

#endif
