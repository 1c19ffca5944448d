/*
 * peer_internal - what the parts of peer share.
 */
#ifndef FILAD_TESTS_PEER_INTERNAL_H
#define FILAD_TESTS_PEER_INTERNAL_H

#include "fibp/reassembly.h"
#include "process/support/peer.h"

struct peer {
    int fd;
    bool ended;
    bool goodbye; /* the server sent Disconnect */
    uint32_t next_request;
    uint64_t read_ns; /* when the last bytes came */
    struct buf input, output;
    struct reassembly reassembly;
    size_t longest;                       /* bytes of the longest frame that came */
    struct peer_frame *kept, **kept_tail; /* received, not asked for yet; oldest first */
    struct peer_frame *open;              /* a Delivery whose messages are handed out one by one */
    uint32_t open_left;
    size_t open_at; /* offset in its body */
};

#endif
