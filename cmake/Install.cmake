# Program, library, headers; find_package(heartmula) and pkg-config heartmula.
include(CMakePackageConfigHelpers)

if(HEARTMULA_HAS_PROGRAM)
  install(TARGETS heartmula_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

if(HEARTMULA_HAS_LIBRARY)
  set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/heartmula)
  install(TARGETS heartmula EXPORT heartmulaTargets
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY include/heartmula DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
  install(EXPORT heartmulaTargets NAMESPACE heartmula:: DESTINATION ${package_dir})

  if(BUILD_SHARED_LIBS)  # a shared library brings its own dependencies along
    set(HEARTMULA_FIND_DEPENDENCIES "")
    set(pc_libs "")
  else()
    # In Libs, for without them a static library cannot be used at all; and not by Requires, for Debian 12's
    # `pkg-config --static sndfile` asks for -lmp3lame, which libsndfile1-dev does not bring.
    list(REMOVE_DUPLICATES HEARTMULA_PC_LIBS)
    list(JOIN HEARTMULA_PC_LIBS " " pc_libs)
    string(PREPEND pc_libs " -pthread ")
  endif()
  configure_package_config_file(cmake/heartmulaConfig.cmake.in heartmulaConfig.cmake
                                INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
  write_basic_package_version_file(heartmulaConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/heartmulaConfig.cmake ${PROJECT_BINARY_DIR}/heartmulaConfigVersion.cmake
          DESTINATION ${package_dir})

  # Paths relative to the .pc file, so that the installed tree can be moved.
  file(RELATIVE_PATH pc_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
  configure_file(cmake/heartmula.pc.in heartmula.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/heartmula.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
