#include "conf/keys.h"

#include "conf/conf.h"
#include "config.h"

#define KILOBYTE 1024ULL
#define MEGABYTE (1024 * KILOBYTE)
#define GIGABYTE (1024 * MEGABYTE)
#define SECOND 1000ULL
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

#define AT(member) .offset = offsetof(struct conf, member)
#define AT_LISTEN(member) .offset = offsetof(struct conf_listen, member)
#define END                                                                                        \
    {                                                                                              \
        .type = SCHEMA_END                                                                         \
    }

static const struct schema_name level_names[] = {
    {"error", LOG_ERROR}, {"warn", LOG_WARN},   {"notice", LOG_NOTICE},
    {"info", LOG_INFO},   {"debug", LOG_DEBUG}, {NULL, 0},
};

static const struct schema_name numbering_names[] = {
    {"auto", CONF_NUMBERING_AUTO},
    {"s1", CONF_NUMBERING_S1},
    {"s2", CONF_NUMBERING_S2},
    {"s3", CONF_NUMBERING_S3},
    {NULL, 0},
};

static const struct schema_name preface_profile_names[] = {
    {"auto", CONF_PREFACE_PROFILE_AUTO}, {"pr5", SCHEMA_NAME_ABSENT},
    {"reference", SCHEMA_NAME_ABSENT},   {"go", SCHEMA_NAME_ABSENT},
    {"java", SCHEMA_NAME_ABSENT},        {"js1", SCHEMA_NAME_ABSENT},
    {"ruby1", SCHEMA_NAME_ABSENT},       {NULL, 0},
};

static const struct schema_name durability_names[] = {
    {"commit", CONF_DURABILITY_COMMIT},
    {"interval", CONF_DURABILITY_INTERVAL},
    {NULL, 0},
};

static const struct schema_key error_log_keys[] = {
    {"path", SCHEMA_PATH, AT(error_log.path), .word = "stderr|syslog",
     .initial = FILAD_LOCALSTATEDIR "/log/filad/error.log",
     .doc = "file that the log is appended to, stderr or syslog"},
    {"level", SCHEMA_ENUM, AT(error_log.level), .names = level_names, .initial = "info",
     .doc = "least serious records that are written"},
    END,
};

static const struct schema_key listen_keys[] = {
    {"address", SCHEMA_STRING, AT_LISTEN(address), .required = true, .min = 1, .max = 255,
     .doc = "IPv4:PORT, [IPv6]:PORT or unix:PATH"},
    {"tls", SCHEMA_BOOL, AT_LISTEN(tls), .initial = "false", .absent = "TLS",
     .doc = "whether connections are encrypted"},
    {"backlog", SCHEMA_INT, AT_LISTEN(backlog), .initial = "511", .min = 1, .max = 65535,
     .doc = "connections that the kernel holds until a worker accepts them"},
    {"numbering", SCHEMA_ENUM, AT_LISTEN(numbering), .names = numbering_names, .initial = "auto",
     .doc = "opcode numbers of enqueue, consume, ack and nack in the framed dialect"},
    {"preface_profile", SCHEMA_ENUM, AT_LISTEN(preface_profile), .names = preface_profile_names,
     .initial = "auto", .doc = "client generation expected in the preface dialect"},
    END,
};

static const struct schema_key fibp_keys[] = {
    {"max_frame_size", SCHEMA_SIZE, AT(fibp.max_frame_size), .initial = "16m", .min = 64 * KILOBYTE,
     .max = 16 * MEGABYTE, .doc = "largest frame, told to clients"},
    {"max_message_size", SCHEMA_SIZE, AT(fibp.max_message_size), .initial = "64m",
     .min = 64 * KILOBYTE, .max = GIGABYTE,
     .doc = "largest request put together from continuation frames"},
    {"max_pending_streams", SCHEMA_INT, AT(fibp.max_pending_streams), .initial = "64", .min = 1,
     .max = 4096, .doc = "unfinished continuation streams of one connection"},
    {"handshake_timeout", SCHEMA_TIME, AT(fibp.handshake_timeout_ms), .initial = "10s", .min = 100,
     .max = HOUR, .doc = "time that a new connection has for its handshake"},
    {"keepalive_interval", SCHEMA_TIME, AT(fibp.keepalive_interval_ms), .initial = "30s",
     .min = 100, .max = DAY, .doc = "silence after which a connection gets a Ping"},
    {"delivery_window", SCHEMA_SIZE, AT(fibp.delivery_window), .initial = "1m",
     .min = 64 * KILOBYTE, .max = 64 * MEGABYTE,
     .doc = "bytes queued to one connection before delivery to it pauses"},
    END,
};

static const struct schema_key checkpoint_keys[] = {
    {"bytes", SCHEMA_SIZE, AT(store.checkpoint.bytes), .initial = "64m", .min = MEGABYTE,
     .max = 16 * GIGABYTE, .doc = "log written since the last checkpoint that calls for the next"},
    {"interval", SCHEMA_TIME, AT(store.checkpoint.interval_ms), .initial = "60s", .min = 100,
     .max = DAY, .doc = "longest time between checkpoints while anything is written"},
    END,
};

static const struct schema_key store_keys[] = {
    {"path", SCHEMA_PATH, AT(store.path), .initial = FILAD_LOCALSTATEDIR "/lib/filad",
     .doc = "directory of the data"},
    {"regions", SCHEMA_PATH, AT(store.regions), .initial = "auto", .word = "auto",
     .doc = "directory of the environment's region files, on tmpfs"},
    {"reserve", SCHEMA_SIZE, AT(store.reserve), .initial = "auto", .word = "auto", .min = MEGABYTE,
     .max = 1024 * GIGABYTE, .doc = "disk space held back for acks and recovery on a full disk"},
    {"cache_size", SCHEMA_SIZE, AT(store.cache_size), .initial = "256m", .min = 8 * MEGABYTE,
     .max = 1024 * GIGABYTE, .doc = "cache shared by all processes"},
    {"durability", SCHEMA_ENUM, AT(store.durability), .names = durability_names,
     .initial = "commit", .doc = "what a confirmation promises"},
    {"sync_interval", SCHEMA_TIME, AT(store.sync_interval_ms), .initial = "100ms", .min = 1,
     .max = MINUTE, .doc = "time between syncs with durability interval"},
    {"checkpoint", SCHEMA_MAPPING, .keys = checkpoint_keys, .doc = "when checkpoints are taken"},
    END,
};

static const struct schema_key scheduler_keys[] = {
    {"quantum", SCHEMA_INT, AT(scheduler.quantum), .initial = "1000", .min = 1, .max = 1000000,
     .doc = "deficit that weight 1 earns in a round"},
    {"max_unacked", SCHEMA_INT, AT(scheduler.max_unacked), .initial = "10000", .min = 1,
     .max = 1000000, .doc = "leases of one consumer beyond which its delivery pauses"},
    {"visibility_timeout", SCHEMA_TIME, AT(scheduler.visibility_timeout_ms), .initial = "30s",
     .min = 1, .max = 7 * DAY, .doc = "lease time of a queue that names none"},
    END,
};

/* Nested mappings keep their values in struct conf itself, so their offset is 0. */
const struct schema_key conf_keys[] = {
    {"user", SCHEMA_STRING, AT(user), .initial = FILAD_USER, .min = 1, .max = 255,
     .doc = "user of workers and keeper when started as root"},
    {"group", SCHEMA_STRING, AT(group), .initial = FILAD_GROUP, .min = 1, .max = 255,
     .doc = "group of workers and keeper when started as root"},
    {"worker_processes", SCHEMA_INT, AT(worker_processes), .initial = "auto", .word = "auto",
     .min = 1, .max = CONF_WORKERS_MAX, .doc = "number of workers; auto is one for each CPU"},
    {"daemon", SCHEMA_BOOL, AT(daemon), .initial = "true", .doc = "go to the background"},
    {"pid_file", SCHEMA_PATH, AT(pid_file), .initial = FILAD_RUNSTATEDIR "/filad.pid",
     .doc = "file that holds the master's process id"},
    {"error_log", SCHEMA_MAPPING, .keys = error_log_keys, .doc = "the log"},
    {"worker_rlimit_nofile", SCHEMA_INT, AT(worker_rlimit_nofile), .initial = "65536", .min = 256,
     .max = 10000000, .doc = "descriptors that each process may have open"},
    {"worker_connections", SCHEMA_INT, AT(worker_connections), .initial = "16384", .min = 1,
     .max = 1000000, .doc = "connections of each worker"},
    {"worker_shutdown_timeout", SCHEMA_TIME, AT(worker_shutdown_timeout_ms), .initial = "30s",
     .min = 1, .max = DAY, .doc = "time that a worker has to finish its connections"},
    {"listen", SCHEMA_MAPPING_LIST, AT(listen), .count_offset = offsetof(struct conf, listen_count),
     .item_size = sizeof(struct conf_listen), .keys = listen_keys, .min = 1, .max = 64,
     .initial = "[{address: \"0.0.0.0:5555\"}]", .doc = "listening sockets"},
    {"fibp", SCHEMA_MAPPING, .keys = fibp_keys, .doc = "limits of the protocol"},
    {"store", SCHEMA_MAPPING, .keys = store_keys, .doc = "where and how messages are kept"},
    {"shared_memory", SCHEMA_SIZE, AT(shared_memory), .initial = "1g", .min = 64 * MEGABYTE,
     .max = 1024 * GIGABYTE, .doc = "address space of the scheduler's zone"},
    {"scheduler", SCHEMA_MAPPING, .keys = scheduler_keys, .doc = "defaults of queues"},
    {"load_module", SCHEMA_PATH_LIST, AT(load_module),
     .count_offset = offsetof(struct conf, load_module_count), .max = CONF_LOAD_MODULES_MAX,
     .initial = "[]", .doc = "dynamic modules"},
    {"tls", SCHEMA_ABSENT, .absent = "TLS", .doc = "certificates of TLS listeners"},
    {"auth", SCHEMA_ABSENT, .absent = "authentication", .doc = "API keys"},
    {"lua", SCHEMA_ABSENT, .absent = "Lua module", .doc = "limits of Lua hooks"},
    {"http", SCHEMA_ABSENT, .absent = "metrics module", .doc = "metrics and health over HTTP"},
    {"header_key", SCHEMA_ABSENT, .absent = "header_key module",
     .doc = "fairness keys from message headers"},
    {"cluster", SCHEMA_ABSENT, .absent = "cluster module", .doc = "several brokers as one"},
    END,
};
