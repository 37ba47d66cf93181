/* SPDX-License-Identifier: MIT */
/*
 * The settings of an outbound connection, as rows of options wherever their
 * value never changes.
 */
#include "common/outbound.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/alloc.h"

static const char *ca_file;

/* Where systems keep their bundle, Debian's first. */
static const char *const ca_places[] = {
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
};

/*
 * A proxy's scheme as people write it, and as libcurl is told: with socks5
 * the proxy resolves names too, which libcurl calls socks5h.
 */
static const struct {
	const char *prefix;
	const char *told;
} proxy_schemes[] = {
	{ "http://", "http://" },
	{ "https://", "https://" },
	{ "socks5://", "socks5h://" },
	{ "socks5h://", "socks5h://" },
};

static const struct {
	CURLoption option;
	long value;
} fixed_numbers[] = {
	{ CURLOPT_NOSIGNAL, 1 },
	/* A cancel while resolving must not wait for the resolver's thread. */
	{ CURLOPT_QUICK_EXIT, 1 },
	{ CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1 },
	{ CURLOPT_FOLLOWLOCATION, 0 },
	{ CURLOPT_MAXAGE_CONN, 50 },
	{ CURLOPT_TCP_NODELAY, 1 },
	{ CURLOPT_TCP_KEEPALIVE, 1 },
	{ CURLOPT_PATH_AS_IS, 1 },
	{ CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2 },
	/* Headers with a credential are for the provider, not its proxy. */
	{ CURLOPT_HEADEROPT, CURLHEADER_SEPARATE },
	{ CURLOPT_SUPPRESS_CONNECT_HEADERS, 1 },
};

static const struct {
	CURLoption option;
	const char *value;
} fixed_strings[] = {
	{ CURLOPT_PROTOCOLS_STR, "http,https" },
	/* A directory of CAs would turn the cache of the parsed bundle off:
	 * 20 ms of CPU for every new connection. */
	{ CURLOPT_CAPATH, NULL },
	{ CURLOPT_PROXY_CAPATH, NULL },
	/* Or NO_PROXY of the environment would overrule the proxy. */
	{ CURLOPT_NOPROXY, "" },
};

static const char *
find_ca_file(void)
{
	const char *given = getenv("SSL_CERT_FILE");

	if (given != NULL && given[0] != '\0')
		return given;
	for (size_t i = 0; i < ARRAY_LEN(ca_places); i++)
		if (access(ca_places[i], R_OK) == 0)
			return ca_places[i];
	return curl_version_info(CURLVERSION_NOW)->cainfo;
}

int
outbound_init(void)
{
	const char *found;

	if (ca_file != NULL)
		return 0;
	if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK)
		return -ENOMEM;
	found = find_ca_file();
	ca_file = xstrdup(found != NULL ? found : "");
	return 0;
}

const char *
outbound_ca_file(void)
{
	return ca_file;
}

static int
set_number(CURL *handle, CURLoption option, int64_t value)
{
	CURLcode rc = curl_easy_setopt(handle, option, (long)value);

	return rc == CURLE_OK ? 0 : -ENOMEM;
}

/* libcurl copies the string. */
static int
set_string(CURL *handle, CURLoption option, const char *value)
{
	CURLcode rc = curl_easy_setopt(handle, option, value);

	return rc == CURLE_OK ? 0 : -ENOMEM;
}

static int
apply_fixed(CURL *handle)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(fixed_numbers); i++)
		rc = set_number(
		    handle, fixed_numbers[i].option, fixed_numbers[i].value);
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(fixed_strings); i++)
		rc = set_string(
		    handle, fixed_strings[i].option, fixed_strings[i].value);
	if (rc == 0)
		rc = set_string(handle, CURLOPT_CAINFO, ca_file);
	if (rc == 0)
		rc = set_string(handle, CURLOPT_PROXY_CAINFO, ca_file);
	return rc;
}

static bool
has_host(const char *authority)
{
	const char *at = strrchr(authority, '@');
	const char *host = at != NULL ? at + 1 : authority;

	return host[0] != '\0' && strchr(":/?#", host[0]) == NULL;
}

static int
apply_proxy(CURL *handle, const char *proxy)
{
	/* An empty proxy is none at all, whatever the environment says. */
	if (proxy[0] == '\0')
		return set_string(handle, CURLOPT_PROXY, "");
	for (size_t i = 0; i < ARRAY_LEN(proxy_schemes); i++) {
		size_t len = strlen(proxy_schemes[i].prefix);
		AUTO_FREE char *told = NULL;

		if (strncasecmp(proxy, proxy_schemes[i].prefix, len) != 0)
			continue;
		if (!has_host(proxy + len))
			return -EINVAL;
		told = xasprintf("%s%s", proxy_schemes[i].told, proxy + len);
		return set_string(handle, CURLOPT_PROXY, told);
	}
	return -EINVAL;
}

int
outbound_apply(CURL *handle, const struct outbound *o)
{
	int rc = apply_fixed(handle);

	if (rc == 0)
		rc = apply_proxy(handle, o->proxy);
	if (rc == 0)
		rc = set_number(
		    handle, CURLOPT_CONNECTTIMEOUT_MS, o->connect_timeout_ms);
	if (rc == 0)
		rc =
		    set_number(handle, CURLOPT_TIMEOUT_MS, o->total_timeout_ms);
	return rc;
}
