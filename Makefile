# Visage, the PGXS way: make, make install, make installcheck.
# PG_CONFIG chooses the server; WERROR=-Werror makes warnings errors.

EXTENSION = visage
EXTVERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" visage.control)

# One room per capability.  core is linked into each library, with hidden
# symbols; all state (settings, caches) lives in visage.so.  Importers and
# exporters of models are a library of their own, which has what writes and
# checks images in common with visage.so.
CORE_C = $(filter-out src/core/settings.c src/core/adopt.c src/core/pause.c src/core/shared.c,\
	$(wildcard src/core/*.c))
MODELS_ONLY_C = src/model/module.c $(wildcard src/model/import*.c \
	src/model/export*.c)
MODELS_SHARED_C = $(addprefix src/model/,program.c trees.c compile.c \
	compile_ranks.c image.c version.c privilege.c)
VISAGE_C = src/visage.c src/core/settings.c src/core/adopt.c src/core/pause.c src/core/shared.c \
	$(CORE_C) $(wildcard src/history/*.c src/feature/*.c src/run/*.c) \
	$(filter-out $(MODELS_ONLY_C),$(wildcard src/model/*.c))
POSTGRES_C = $(wildcard src/net/libpq*.c)
VISAGE_NET_C = $(filter-out $(POSTGRES_C),$(wildcard src/net/*.c src/ingest/*.c))

MODULE_big = visage
OBJS = $(VISAGE_C:.c=.o)
NET_OBJS = $(VISAGE_NET_C:.c=.o) $(CORE_C:.c=.o)
POSTGRES_OBJS = $(POSTGRES_C:.c=.o) $(CORE_C:.c=.o)
MODELS_OBJS = $(MODELS_ONLY_C:.c=.o) $(MODELS_SHARED_C:.c=.o) $(CORE_C:.c=.o)
# Libraries of visage_models.so, and flags to compile importers.
MODELS_LIBS = -lxml2
OWN_HEADERS = $(wildcard src/*/*.h)

# In the order in which a later room may use what an earlier one created.
SQL_PARTS = src/core/guard.sql src/core/core.sql src/quality/quality.sql \
	src/run/run.sql src/net/net.sql src/ingest/ingest.sql \
	src/history/history.sql \
	src/feature/feature.sql src/model/model.sql connectors/schema.sql \
	connectors/connectors.sql \
	src/core/finish.sql
CONNECTORS = $(filter-out %/schema.json,$(sort $(wildcard connectors/*.json)))

DATA = $(wildcard upgrade/visage--*.sql)
DATA_built = $(EXTENSION)--$(EXTVERSION).sql

REGRESS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
REGRESS_OPTS = --load-extension=plpgsql --load-extension=visage

PG_CPPFLAGS = -DVISAGE_VERSION='"$(EXTVERSION)"' -Isrc $(shell xml2-config --cflags)
PG_CFLAGS = -std=gnu11 -Wall -Wextra \
	-Wno-unused-parameter -Wno-sign-compare -ffp-contract=off $(WERROR)
SHLIB_LINK = -lm -Wl,--version-script=src/exports.map
EXTRA_CLEAN = visage_net.so $(VISAGE_NET_C:.c=.o) $(VISAGE_NET_C:.c=.bc) \
	visage_postgres.so $(POSTGRES_C:.c=.o) $(POSTGRES_C:.c=.bc) \
	visage_models.so $(MODELS_ONLY_C:.c=.o) $(MODELS_ONLY_C:.c=.bc) \
	connectors/connectors.sql connectors/schema.sql

PG_CONFIG ?= pg_config
ifeq ($(shell command -v $(PG_CONFIG)),)
$(error $(PG_CONFIG) not found: install the server headers or set PG_CONFIG)
endif
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)
ifneq ($(filter-out 9 10 11 12 13 14,$(MAJORVERSION)),$(MAJORVERSION))
$(error Visage needs PostgreSQL 15 or later, $(PG_CONFIG) is $(VERSION))
endif

all: visage_net.so visage_postgres.so visage_models.so

# libpq is needed by one library only.
$(POSTGRES_C:.c=.o) $(POSTGRES_C:.c=.bc): override CPPFLAGS += -I$(shell $(PG_CONFIG) --includedir)

# PGXS tracks headers only under --enable-depend.
$(OBJS) $(NET_OBJS) $(POSTGRES_OBJS) $(MODELS_OBJS): $(OWN_HEADERS) visage.control

visage_net.so: $(NET_OBJS) src/exports.map
	$(CC) $(CFLAGS) $(filter-out %.so,$(NET_OBJS)) $(LDFLAGS) $(LDFLAGS_SL) \
		-shared -Wl,--version-script=src/exports.map -o $@ -lcurl -lcrypto -lz -lm

visage_postgres.so: $(POSTGRES_OBJS) src/exports.map
	$(CC) $(CFLAGS) $(filter-out %.so,$(POSTGRES_OBJS)) $(LDFLAGS) $(LDFLAGS_SL) \
		-shared -Wl,--version-script=src/exports.map -o $@ \
		-L$(shell $(PG_CONFIG) --libdir) -lpq -lpthread -lm

# What runs once a row, and has loops over 64 of them.
src/model/kernel.o src/model/sum.o src/model/linear.o src/model/walk.o src/model/dense.o src/model/rank.o src/model/rank_wide.o \
src/model/shap.o: \
	CFLAGS += -O3

# An argument's value and its null flag were stored one by one just before: a
# load of both would wait for the stores.
src/model/linear.o: CFLAGS += -fno-tree-slp-vectorize

visage_models.so: $(MODELS_OBJS) src/exports.map
	$(CC) $(CFLAGS) $(filter-out %.so,$(MODELS_OBJS)) $(LDFLAGS) $(LDFLAGS_SL) \
		-shared -Wl,--version-script=src/exports.map -o $@ $(MODELS_LIBS) -lm

visage.so: src/exports.map

install: install-libraries
install-libraries: visage_net.so visage_postgres.so visage_models.so installdirs
	$(INSTALL_SHLIB) visage_net.so '$(DESTDIR)$(pkglibdir)/visage_net.so'
	$(INSTALL_SHLIB) visage_postgres.so '$(DESTDIR)$(pkglibdir)/visage_postgres.so'
	$(INSTALL_SHLIB) visage_models.so '$(DESTDIR)$(pkglibdir)/visage_models.so'
uninstall: uninstall-libraries
uninstall-libraries:
	rm -f '$(DESTDIR)$(pkglibdir)/visage_net.so'
	rm -f '$(DESTDIR)$(pkglibdir)/visage_postgres.so'
	rm -f '$(DESTDIR)$(pkglibdir)/visage_models.so'
.PHONY: install-libraries uninstall-libraries

# The grammar of manifests, which visage_create_connector holds them to.
connectors/schema.sql: connectors/schema.json
	{ printf "CREATE FUNCTION visage.manifest_schema() RETURNS jsonb\n\tLANGUAGE sql IMMUTABLE PARALLEL SAFE\nBEGIN ATOMIC\n\tSELECT \$$schema\$$"; \
		cat $<; printf "\$$schema\$$::pg_catalog.jsonb;\nEND;\n"; \
		echo "COMMENT ON FUNCTION visage.manifest_schema() IS 'The grammar of manifests, a JSON Schema.';"; } > $@.tmp && mv $@.tmp $@

# Manifests are data: each becomes a built-in row of the connector noun.
connectors/connectors.sql: $(CONNECTORS)
	for f in $(CONNECTORS); do \
		printf "INSERT INTO visage.declarations (noun, name, definition, builtin)\nVALUES ('connector', '%s', jsonb_build_object('name', '%s', 'manifest', \$$manifest\$$" \
			"$$(basename $$f .json)" "$$(basename $$f .json)"; \
		cat $$f; printf "\$$manifest\$$::jsonb), true);\n"; \
	done > $@.tmp && mv $@.tmp $@

$(EXTENSION)--$(EXTVERSION).sql: $(SQL_PARTS) visage.control
	cat $(SQL_PARTS) > $@.tmp && mv $@.tmp $@
