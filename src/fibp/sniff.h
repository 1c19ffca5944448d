/*
 * sniff - which protocol a connection speaks, from its first bytes.
 */
#ifndef FILAD_FIBP_SNIFF_H
#define FILAD_FIBP_SNIFF_H

#include "core/str.h"

enum sniff_result {
    SNIFF_MORE,    /* undecided yet: at most 4 bytes are needed */
    SNIFF_FRAMED,  /* framed dialect; also for garbage, which its length check then refuses */
    SNIFF_PREFACE, /* "FIBP" */
    SNIFF_BAD,     /* 'F' and then something else: refused by preface rules (GOAWAY, close) */
    SNIFF_TLS,     /* a TLS ClientHello on a plain port: close, log a hint */
    SNIFF_HTTP,    /* "PRI * HTTP/2.0" of a gRPC client: close, log a hint */
};

/* Never asks for more once four bytes are there. Consumes nothing. */
enum sniff_result sniff(struct str bytes);

#endif
