/*
 * page_guard - makes writing a page of a database all or nothing as far as the death of a process
 * and a full disk go.
 *
 * A page is larger than the unit in which the kernel copies and allocates. A process that is killed
 * in the middle of pwrite leaves the first part of the new page, with its new log sequence number,
 * and the rest of the old one; recovery then takes the page for up to date. So each page goes to a
 * slot of a shared file beside the regions first (a copy in memory), then to its place; recovery
 * writes the pages of slots that were in use once more. And what is not allocated on the disk yet
 * is allocated before, so that a full disk refuses a page as a whole.
 *
 * The file is on tmpfs: it outlives processes, not the machine. A power failure in the middle of
 * the disk's own writing of a page is not covered by it.
 */
#ifndef FILAD_STORE_PAGE_GUARD_H
#define FILAD_STORE_PAGE_GUARD_H

#include <sys/types.h>

#include "core/err.h"

#define PAGE_GUARD_FILE "pages" /* its name in the region directory */

/* Repairs what the last generation was writing when it ended, then makes the file of this one. For
 * the keeper, before recovery; nobody else may have the store open. */
int page_guard_recover(const char *regions, const char *store_path, struct err *err)
    __attribute__((warn_unused_result));

/* Maps the file into this process; page_guard_pwrite copies from then on. */
int page_guard_attach(const char *regions, struct err *err) __attribute__((warn_unused_result));
void page_guard_detach(void);

/* For db_env_set_func_pwrite. */
ssize_t page_guard_pwrite(int fd, const void *data, size_t size, off_t offset);

#endif
