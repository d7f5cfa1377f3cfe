# find_package(Heddle COMPONENTS core train): each component has its own targets file, because core must be
# found where Eigen is not.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Heddle)

foreach(component IN ITEMS core train)
  if(TARGET heddle_${component})
    install(TARGETS heddle_${component} EXPORT Heddle_${component})
    install(EXPORT Heddle_${component} FILE Heddle_${component}.cmake
            NAMESPACE heddle:: DESTINATION ${package_dir})
  endif()
endforeach()

configure_package_config_file(cmake/HeddleConfig.cmake.in ${PROJECT_BINARY_DIR}/HeddleConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/HeddleConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/HeddleConfig.cmake ${PROJECT_BINARY_DIR}/HeddleConfigVersion.cmake
        DESTINATION ${package_dir})

install(DIRECTORY include/heddle DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

if(TARGET heddle)
  install(TARGETS heddle)
endif()
if(HEDDLE_BUILD_TRAIN)
  # Programs look into ../share/heddle from where they are.
  install(FILES data/digits.bin DESTINATION share/heddle)
  install(FILES data/README.md DESTINATION share/heddle RENAME digits.md)
endif()
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
