# The house: one line a room, lower floors first. main.cc alone sees all.
room(base     LIBRARIES spdlog::spdlog PkgConfig::PROMETHEUS Boost::headers)                                       # floor 0
room(event    USES base LIBRARIES PkgConfig::LZ4 PkgConfig::XXHASH PkgConfig::SIMDJSON PkgConfig::ZSTD PkgConfig::ZLIB)  # floor 1
room(log      USES event)                                                                           # floor 2
room(sql      USES event LIBRARIES duckdb Boost::headers)                                           # floor 2
room(stage    USES log sql LIBRARIES PkgConfig::YAML)                                               # floor 3
room(tables   USES sql)                                                                             # floor 3
room(sources  USES stage)                                                                           # floor 4
room(filters  USES stage)                                                                           # floor 4
room(sinks    USES stage tables LIBRARIES PkgConfig::LIBPQ)                                                               # floor 4
room(catalog  USES stage tables LIBRARIES OpenSSL::Crypto)                                       # floor 4
room(pipeline USES catalog tables)                                                                  # floor 5
room(query    USES pipeline)                                                                        # floor 6
room(server   USES query LIBRARIES OpenSSL::SSL Boost::headers)                                                    # floor 7
room(cli      USES server LIBRARIES PkgConfig::CURL)                                                # floor 8

# The demo's files are taken into the binary.
file(GLOB demo_files CONFIGURE_DEPENDS examples/demo/*)
set_source_files_properties(src/cli/demo_files.cc PROPERTIES OBJECT_DEPENDS "${demo_files}" SKIP_PRECOMPILE_HEADERS ON
  COMPILE_DEFINITIONS "MILLSTREAM_SOURCE_DIR=\"${PROJECT_SOURCE_DIR}\"")

# These libraries do not say their version themselves.
set_source_files_properties(src/cli/help.cc PROPERTIES
  COMPILE_DEFINITIONS "YAML_CPP_VERSION=\"${YAML_VERSION}\";PROMETHEUS_CPP_VERSION=\"${PROMETHEUS_VERSION}\";LIBPQ_VERSION=\"${LIBPQ_VERSION}\"")

# The inner loops of ingest and delivery: -O2 costs ingest a twelfth more CPU (docs/decisions/0008-intake.md). Each source by itself,
# as GCC inlines less where a unit is large.
set_target_properties(event PROPERTIES UNITY_BUILD OFF)
if(NOT MILLSTREAM_SANITIZE AND NOT MILLSTREAM_FUZZ)
  target_compile_options(event PRIVATE -O3)
endif()
