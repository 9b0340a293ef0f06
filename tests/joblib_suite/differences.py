"""Which of joblib's own tests jobspan fails, and why it may.

What users see of it is said in docs/from-joblib.md.
"""

from __future__ import annotations

_BY_REASON = {
    "looks at joblib's private attributes": """
        test_parallel::test_error_capture
        test_parallel::test_batching_auto_threading
        test_parallel::test_batching_auto_subprocesses
        test_parallel::test_backend_batch_statistics_reset
        test_parallel::test_default_mp_context
        test_parallel::test_multiple_generator_call_separated_gc
        test_dask::test_dask_backend_uses_autobatching
        test_dask::test_correct_nested_backend
        test_dask::test_dask_funcname
        test_memory::test_memorized_result_forwards_mmap_mode
        test_memory::test_persistence
        test_memory::test_call_and_shelve_lazily_load_stored_result
        test_memory::test__get_items
        test_memory::test__get_items_to_delete
        test_memory::test_memory_reduce_size_bytes_limit
        test_memory::test_memory_reduce_size_items_limit
        test_memory::test_memory_reduce_size_age_limit
        test_memory::test_memory_clear
        test_memory::test_memory_recomputes_after_an_error_while_loading_results
        test_memory::test_instanciate_incomplete_store_backend
        test_memory::test_dummy_store_backend
        test_memory::test_memory_pickle_dump_load
        test_numpy_pickle::test_object_array_inner_stream_uses_caller_find_class
        test_numpy_pickle::test_register_compressor
        test_store_backends::test_warning_on_dump_failure
    """,
    "counts on hooks and attributes that joblib's own backends have": """
        test_config::test_external_backends
        test_parallel::test_backend_context_manager
        test_parallel::test_parameterized_backend_context_manager
        test_parallel::test_directly_parameterized_backend_context_manager
        test_parallel::test_backend_nesting_level
        test_parallel::test_nested_backend_in_sequential
        test_parallel::test_nested_parallelism_limit
        test_parallel::test_retrieval_context
        test_parallel::test_overwrite_default_backend
        test_parallel::test_backend_hinting_and_constraints
        test_parallel::test_backend_hinting_and_constraints_with_custom_backends
        test_dask::test_nested_parallelism_with_dask
        test_dask::test_nested_backend_context_manager_implicit_n_jobs
    """,
    "counts on loky, which jobspan does not load": """
        test_module::test_no_start_method_side_effect_on_import
        test_parallel::test_parallel_with_interactively_defined_bound_method_loky
    """,
    "compares an error's or a warning's words, which here say what to type next": """
        test_parallel::test_parallel_pickling
        test_parallel::test_warning_about_timeout_not_supported_by_backend
        test_numpy_pickle::test_compress_mmap_mode_warning
        test_numpy_pickle::test_file_handle_persistence_compressed_mmap
        test_numpy_pickle::test_file_handle_persistence_in_memory_mmap
        test_numpy_pickle::test_invalid_parameters_raise
        test_numpy_pickle::test_register_compressor_already_registered
    """,
    "expects numpy's memmap; mapped arrays are plain ones, but those of load": """
        test_config::test_parallel_config_no_backend
        test_parallel::test_auto_memmap_on_arrays_from_generator
        test_parallel::test_memmapping_leaks
        test_memory::test_memory_numpy_check_mmap_mode
        test_memory_async::test_memory_numpy_check_mmap_mode_async
    """,
    "looks into joblib's layout of a cache's folder": """
        test_memory::test_parallel_call_cached_function_defined_in_jupyter
        test_memory::test_func_dir
        test_memory::test_memory_objects_repr
        test_memory::test_memory_creates_gitignore
    """,
    "expects calls of functions of one name to collide": """
        test_memory::test_memory_name_collision
        test_memory::test_memory_warning_lambda_collisions
        test_memory::test_memory_warning_collision_detection
        test_memory::test_memory_in_memory_function_code_change
    """,
    "expects ValueError where Python raises TypeError": """
        test_memory::test_memory_func_with_kwonly_args
        test_config::test_parallel_config_constructor_params
    """,
    "expects that processes are not nested": """
        test_parallel::test_nested_parallel_warnings
        test_dask::test_joblib_warning_inside_dask_daemonic_worker
    """,
    "expects an error where no Dask client is; jobspan starts a cluster on this machine": """
        test_dask::test_errors
    """,
    "expects TimeoutError where a cluster has no workers; it is BackendUnreachableError": """
        test_dask::test_wait_for_workers_timeout
    """,
    "expects that what is smaller than max_nbytes, or is no buffer, is scattered": """
        test_dask::test_auto_scatter
        test_dask::test_manual_scatter
    """,
    "expects that an array in a function's closure is not scattered": """
        test_dask::test_no_undesired_distributed_cache_hit
    """,
    "two calls run on two workers, which Dask forks with one state of random": """
        test_dask::test_dont_assume_function_purity
    """,
    "expects new workers where an initializer's arguments change; it runs in those there are": """
        test_parallel::test_initializer_not_reused
    """,
    "expects that inner_max_num_threads is refused": """
        test_config::test_threadpool_limitation_in_child_context_error
    """,
    "expects that an iterable is read ahead with one job": """
        test_parallel::test_dispatch_one_job
    """,
    "compares digests of joblib's": """
        test_hashing::test_hashes_stay_the_same
    """,
    "expects that equal values have several digests": """
        test_hashing::test_hash_numpy_noncontiguous
        test_hashing::test_hash_memmap
    """,
    "expects that a function cannot be hashed": """
        test_hashing::test_hashing_pickling_error
    """,
    "expects that hashing takes as long as md5 does": """
        test_hashing::test_hash_numpy_performance
    """,
    "looks for zlib's bytes; what \"zlib\" writes begins as gzip's": """
        test_numpy_pickle::test_compress_tuple_argument
        test_numpy_pickle::test_compress_string_argument
        test_numpy_pickle::test_joblib_compression_formats
        test_numpy_pickle::test_load_externally_decompressed_files
        test_numpy_pickle::test_compression_using_file_extension
    """,
}

DIFFERENT = {name: reason for reason, names in _BY_REASON.items() for name in names.split()}
"""Each of these tests, with the reason."""

NOT_RUN = {
    "test_func_inspect, test_disk, test_utils, test_backports, test_testing": (
        "about helpers, which jobspan has no counterpart of"
    ),
    "test_memmapping": "about files in which joblib's workers share arrays; here there are none",
    "test_missing_multiprocessing": "about Pythons without multiprocessing",
    "test_numpy_pickle_compat, test_numpy_pickle_utils": "about joblib's formats of files",
}
"""Modules that are not run, with the reason."""
