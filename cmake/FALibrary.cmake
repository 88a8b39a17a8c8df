# One precompiled header and one object library hold the whole compiler; the
# tools link it with the LLVM/MLIR shared libraries, libfa with the static ones.

# fa_sources(FILE...): adds sources of the calling directory to the compiler.
function(fa_sources)
  foreach(source IN LISTS ARGN)
    target_sources(obj.fa PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/${source})
  endforeach()
endfunction()

# fa_add_tool(NAME FILE...): a command-line tool over the compiler.
function(fa_add_tool name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE obj.fa obj.fa.registration MLIR LLVM)
  add_dependencies(${name} fa-tablegen)
endfunction()
