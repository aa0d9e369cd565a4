/* The version of the service, printed by `salient version` and GET /version. */
#ifndef CORE_BASE_VERSION_H
#define CORE_BASE_VERSION_H

#define SALIENT_VERSION "0.1.0"

#endif
