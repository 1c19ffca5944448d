/*
 * recovery_sync - how recovery syncs databases: many files at once, where one sync for each would
 * take longer than all the rest.
 *
 * A recovery ends with a checkpoint that writes and syncs every file it touched, perhaps 20,000.
 * Beyond some hundreds their syncs are put off here, and one syncfs stands for all of them. It runs
 * before the next byte of the log is written, so that the log never says more than the databases
 * hold, whenever the machine fails.
 *
 * One thread: the keeper's, while it is alone in the environment.
 */
#ifndef FILAD_STORE_RECOVERY_SYNC_H
#define FILAD_STORE_RECOVERY_SYNC_H

#include <stdbool.h>

#define RECOVERY_SYNC_SINGLE 200 /* files that are synced one by one before */

/* From here on, for the file system of `path`. Without it every file is synced when it is asked
 * for. */
void recovery_sync_begin(const char *path);

/* True when the sync of this file is put off; false: sync it now. Files of the log are never. */
bool recovery_sync_later(int fd);

/* Does what was put off. 0, or an errno: then nothing that was put off can be relied on. */
int recovery_sync_now(void);

/* recovery_sync_now, and back to single syncs. */
int recovery_sync_end(void);

#endif
