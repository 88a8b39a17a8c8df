# cmake --install build --prefix P: programs, libraries, headers, TableGen files and
# find_package(FA), whose targets are
#   FA::fa         libfa.so: the C interface, with LLVM inside
#   FA::compiler   dialects and passes for a program that links libMLIR.so
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_library(fa-compiler STATIC $<TARGET_OBJECTS:obj.fa> $<TARGET_OBJECTS:obj.fa.registration>)
set_target_properties(fa-compiler PROPERTIES EXPORT_NAME compiler LINKER_LANGUAGE CXX)
target_compile_features(fa-compiler INTERFACE cxx_std_17)
target_link_libraries(fa-compiler INTERFACE MLIR LLVM)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/FA)
install(TARGETS fa EXPORT FATargets INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS fa-compiler EXPORT FACompilerTargets
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
foreach(export FATargets FACompilerTargets)
  install(EXPORT ${export} NAMESPACE FA:: DESTINATION ${package})
endforeach()
install(TARGETS FAPlugin LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
# They find LLVM's libraries where the build found them.
set_target_properties(fa-opt fa-translate fa-lsp-server PROPERTIES
  INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS fa-opt fa-translate fa-lsp-server)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/fa ${PROJECT_SOURCE_DIR}/include/fa-c
  TYPE INCLUDE FILES_MATCHING PATTERN "*.h" PATTERN "*.td")
install(DIRECTORY ${PROJECT_BINARY_DIR}/include/fa
  TYPE INCLUDE FILES_MATCHING PATTERN "*.h.inc")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE TYPE DOC)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/licenses TYPE DOC)

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/FAConfig.cmake.in
  ${PROJECT_BINARY_DIR}/cmake/FAConfig.cmake INSTALL_DESTINATION ${package}
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cmake/FAConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/cmake/FAConfig.cmake
  ${PROJECT_BINARY_DIR}/cmake/FAConfigVersion.cmake DESTINATION ${package})
