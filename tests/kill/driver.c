#include "kill/driver.h"

const char *driver_role_name(enum driver_role role)
{
    static const char *const names[DRIVER_ROLES] = {"master", "keeper", "worker", "helper"};
    return (unsigned)role < DRIVER_ROLES ? names[role] : "unknown";
}
