/* The harness of the process tests, which this program shares. */
#include "process/support/broker.c"
#include "process/support/broker_processes.c"
#include "process/support/files.c"
#include "process/support/peer.c"
#include "process/support/peer_calls.c"
