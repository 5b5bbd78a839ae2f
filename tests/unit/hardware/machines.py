"""The machines of recorded/, as the parser is to understand them: every field of each."""

from __future__ import annotations

from inventory.hardware import Hardware, NvidiaCard, PciDevice, VulkanDevice

CORE_2_Q9550 = """
fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush dts acpi mmx fxsr sse sse2 ht tm pbe syscall nx lm
constant_tsc arch_perfmon pebs bts rep_good nopl cpuid aperfmperf pni dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cx16 xtpr pdcm sse4_1
xsave lahf_lm pti tpr_shadow vnmi flexpriority vpid dtherm"""

XEON_8480 = """
fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush dts acpi mmx fxsr sse sse2 ss ht tm pbe syscall nx pdpe1gb
rdtscp lm constant_tsc art arch_perfmon pebs bts rep_good nopl xtopology nonstop_tsc cpuid aperfmperf tsc_known_freq pni pclmulqdq dtes64
monitor ds_cpl vmx smx est tm2 ssse3 sdbg fma cx16 xtpr pdcm pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave avx
f16c rdrand lahf_lm abm 3dnowprefetch cpuid_fault epb cat_l3 cat_l2 cdp_l3 invpcid_single intel_ppin cdp_l2 ssbd mba ibrs ibpb stibp
ibrs_enhanced tpr_shadow vnmi flexpriority ept vpid ept_ad fsgsbase tsc_adjust bmi1 avx2 smep bmi2 erms invpcid cqm rdt_a avx512f avx512dq
rdseed adx smap avx512ifma clflushopt clwb intel_pt avx512cd sha_ni avx512bw avx512vl xsaveopt xsavec xgetbv1 xsaves cqm_llc cqm_occup_llc
cqm_mbm_total cqm_mbm_local split_lock_detect avx_vnni avx512_bf16 wbnoinvd dtherm ida arat pln pts hwp hwp_act_window hwp_epp hwp_pkg_req
avx512vbmi umip pku ospke waitpkg avx512_vbmi2 gfni vaes vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq la57 rdpid
bus_lock_detect cldemote movdiri movdir64b enqcmd fsrm md_clear serialize tsxldtrk pconfig arch_lbr amx_bf16 avx512_fp16 amx_tile amx_int8
flush_l1d arch_capabilities"""

EPYC_IN_A_VM = """
fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx mmxext fxsr_opt pdpe1gb
rdtscp lm constant_tsc rep_good nopl xtopology nonstop_tsc cpuid extd_apicid tsc_known_freq pni pclmulqdq ssse3 fma cx16 pcid sse4_1
sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave avx f16c rdrand hypervisor lahf_lm cmp_legacy cr8_legacy abm sse4a misalignsse
3dnowprefetch osvw topoext vmmcall fsgsbase tsc_adjust bmi1 avx2 smep bmi2 erms invpcid avx512f avx512dq adx smap avx512ifma clflushopt
clwb avx512cd sha_ni avx512bw avx512vl xsaveopt xsavec xgetbv1 xsaves avx_vnni avx512_bf16 clzero xsaveerptr arat avx512vbmi umip
avx512_vbmi2 gfni vaes vpclmulqdq avx512_vnni avx512_bitalg avx512_vpopcntdq rdpid fsrm avx512_vp2intersect"""

CELERON_3865U = """
fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush dts acpi mmx fxsr sse sse2 ss ht tm pbe syscall nx pdpe1gb
rdtscp lm constant_tsc art arch_perfmon pebs bts rep_good nopl xtopology nonstop_tsc cpuid aperfmperf pni pclmulqdq dtes64 monitor ds_cpl
vmx est tm2 ssse3 sdbg cx16 xtpr pdcm pcid sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave rdrand lahf_lm abm 3dnowprefetch
cpuid_fault epb invpcid_single pti ssbd ibrs ibpb stibp tpr_shadow vnmi flexpriority ept vpid ept_ad fsgsbase tsc_adjust smep erms invpcid
mpx rdseed smap clflushopt intel_pt xsaveopt xsavec xgetbv1 xsaves dtherm arat pln pts hwp hwp_notify hwp_act_window hwp_epp md_clear
flush_l1d"""

CORTEX_A76 = """
fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"""

CORTEX_A78AE = """
fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp uscat ilrcpc flagm"""

CORTEX_X925 = """
fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 asimddp sha512 sve
asimdfhm dit uscat ilrcpc flagm sve2 i8mm bf16"""

RYZEN_AI_MAX_395 = """
fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx mmxext fxsr_opt pdpe1gb
rdtscp lm constant_tsc rep_good amd_lbr_v2 nopl xtopology nonstop_tsc cpuid extd_apicid aperfmperf rapl pni pclmulqdq monitor ssse3 fma
cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch
osvw ibs skinit wdt tce topoext perfctr_core perfctr_nb bpext perfctr_llc mwaitx cpuid_fault cpb cat_l3 cdp_l3 hw_pstate ssbd mba
perfmon_v2 ibrs ibpb stibp ibrs_enhanced vmmcall fsgsbase tsc_adjust bmi1 avx2 smep bmi2 erms invpcid cqm rdt_a avx512f avx512dq rdseed
adx smap avx512ifma clflushopt clwb avx512cd sha_ni avx512bw avx512vl xsaveopt xsavec xgetbv1 xsaves cqm_llc cqm_occup_llc cqm_mbm_total
cqm_mbm_local user_shstk avx_vnni avx512_bf16 clzero irperf xsaveerptr rdpru wbnoinvd cppc arat npt lbrv svm_lock nrip_save tsc_scale
vmcb_clean flushbyasid decodeassists pausefilter pfthreshold avic v_vmsave_vmload vgif x2avic v_spec_ctrl vnmi avx512vbmi umip pku ospke
avx512_vbmi2 gfni vaes vpclmulqdq avx512_vnni avx512_bitalg avx512_vpopcntdq rdpid bus_lock_detect movdiri movdir64b overflow_recov succor
smca fsrm avx512_vp2intersect flush_l1d amd_lbr_pmc_freeze"""

WESTMERE_IN_A_VM = """
fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx lm constant_tsc rep_good nopl
xtopology cpuid pni pclmulqdq ssse3 sse4_1 sse4_2 popcnt aes hypervisor lahf_lm arat"""

RYZEN_9_7940HS = """
fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx mmxext fxsr_opt pdpe1gb
rdtscp lm constant_tsc rep_good amd_lbr_v2 nopl nonstop_tsc cpuid extd_apicid aperfmperf rapl pni pclmulqdq monitor ssse3 fma cx16 sse4_1
sse4_2 x2apic movbe popcnt aes xsave avx f16c rdrand lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw
ibs skinit wdt tce topoext perfctr_core perfctr_nb bpext perfctr_llc mwaitx cpb cat_l3 cdp_l3 hw_pstate ssbd mba perfmon_v2 ibrs ibpb
stibp ibrs_enhanced vmmcall fsgsbase bmi1 avx2 smep bmi2 erms invpcid cqm rdt_a avx512f avx512dq rdseed adx smap avx512ifma clflushopt
clwb avx512cd sha_ni avx512bw avx512vl xsaveopt xsavec xgetbv1 xsaves cqm_llc cqm_occup_llc cqm_mbm_total cqm_mbm_local user_shstk
avx512_bf16 clzero irperf xsaveerptr rdpru wbnoinvd cppc arat npt lbrv svm_lock nrip_save tsc_scale vmcb_clean flushbyasid decodeassists
pausefilter pfthreshold vgif x2avic v_spec_ctrl vnmi avx512vbmi umip pku ospke avx512_vbmi2 gfni vaes vpclmulqdq avx512_vnni avx512_bitalg
avx512_vpopcntdq rdpid overflow_recov succor smca fsrm flush_l1d"""

H200_BUSES = ("1b", "43", "52", "61", "9d", "c3", "d1", "df")

MACHINES = {
    "core-2-q9550": Hardware(
        architecture="x86_64",
        cpu_model="Intel(R) Core(TM)2 Quad CPU Q9550 @ 2.83GHz",
        cpu_flags=frozenset(CORE_2_Q9550.split()),
        cores=4,
        memory_mib=7948,
        distribution="debian 12",
        identity="90a1b2c3d4e5f607",
        board="ASUSTeK Computer INC. P5Q-PRO",
        kernel="6.1.0-40-amd64",
        libc="2.36",
        disk_free_mib=404903,
        compilers={"gcc": "12.2.0", "g++": "12.2.0"},
        gpus=(PciDevice("0000:01:00.0", "1002", "9442", "RV770 [Radeon HD 4850]"),),
    ),
    "h200-server": Hardware(
        architecture="x86_64",
        cpu_model="Intel(R) Xeon(R) Platinum 8480+",
        cpu_flags=frozenset(XEON_8480.split()),
        cores=224,
        memory_mib=2063873,
        distribution="ubuntu 22.04",
        identity="c0d1e2f304152637",
        board="NVIDIA DGXH200",
        kernel="5.15.0-1083-nvidia",
        libc="2.35",
        disk_free_mib=1483850,
        compilers={"gcc": "11.4.0", "g++": "11.4.0", "nvcc": "12.8.93"},
        cmake="3.22.1",
        docker="28.3.3",
        gpus=(
            PciDevice("0000:03:00.0", "1a03", "2000", "ASPEED Graphics Family"),
            *(PciDevice(f"0000:{bus}:00.0", "10de", "2335", "GH100 [H200 SXM 141GB]") for bus in H200_BUSES),
        ),
        nvidia_driver="575.57.08",
        nvidia_cards=tuple(
            NvidiaCard(f"GPU-{index}a2b3c4d-5e6f-7081-92a3-b4c5d6e7f80{index}", f"0000:{bus}:00.0", "NVIDIA H200", "9.0", 143771)
            for index, bus in enumerate(H200_BUSES)
        ),
    ),
    "lab-container": Hardware(
        architecture="x86_64",
        cpu_model="AMD EPYC",
        cpu_flags=frozenset(EPYC_IN_A_VM.split()),
        cores=2,
        memory_mib=24105,
        distribution="debian 13",
        identity="4ebbd0047e8d8f40",
        kernel="6.12.48+deb13-cloud-amd64",
        libc="2.41",
        disk_free_mib=68431,
        compilers={"clang": "19.1.7", "glslc": "2025.2"},
        cmake="3.31.6",
        vulkan=(VulkanDevice("llvmpipe (LLVM 19.1.7, 256 bits)", "llvmpipe", "cpu", "1.4.305"),),
    ),
    "mining-rig": Hardware(
        architecture="x86_64",
        cpu_model="Intel(R) Celeron(R) CPU 3865U @ 1.80GHz",
        cpu_flags=frozenset(CELERON_3865U.split()),
        cores=2,
        memory_mib=7872,
        distribution="debian 13",
        identity="6d5f3a0c9f1e2b47",
        board="INTEL SKYBAY",
        kernel="6.12.48+deb13-amd64",
        libc="2.41",
        disk_free_mib=85415,
        gpus=(
            PciDevice("0000:00:02.0", "8086", "5906", "HD Graphics 610"),
            *(PciDevice(f"0000:0{bus}:00.0", "10de", "1b87", "GP104 [P104-100]") for bus in range(1, 9)),
        ),
        nvidia_driver="580.95.05",
        nvidia_cards=tuple(
            NvidiaCard(f"GPU-{bus}f0c8a2b-3c4d-5e6f-7081-92a3b4c5d6e{bus}", f"0000:0{bus}:00.0", "NVIDIA P104-100", "6.1", 8192)
            for bus in range(1, 9)
        ),
    ),
    "raspberry-pi-5": Hardware(
        architecture="aarch64",
        cpu_model="Cortex-A76",
        cpu_flags=frozenset(CORTEX_A76.split()),
        cores=4,
        memory_mib=8052,
        distribution="debian 12",
        identity="0f1e2b476d5f3a0c",
        cpu_parts=("0x41 0xd0b",),
        board="Raspberry Pi 5 Model B Rev 1.0",
        kernel="6.6.51+rpt-rpi-2712",
        python="3.11",
        libc="2.36",
        disk_free_mib=102622,
        compilers={"gcc": "12.2.0", "g++": "12.2.0"},
        vulkan=(
            VulkanDevice("V3D 7.1.7", "v3dv mesa", "integrated", "1.2.255"),
            VulkanDevice("llvmpipe (LLVM 15.0.6, 128 bits)", "llvmpipe", "cpu", "1.3.255"),
        ),
    ),
    "raspberry-pi-os-32-bits": Hardware(
        architecture="armhf",
        cpu_model="Cortex-A76",
        cpu_flags=frozenset(CORTEX_A76.split()),
        cores=4,
        memory_mib=8052,
        distribution="raspbian 12",
        identity="4d5f3a0c0f1e2b47",
        cpu_parts=("0x41 0xd0b",),
        board="Raspberry Pi 5 Model B Rev 1.0",
        kernel="6.6.51+rpt-rpi-v8",
        libc="2.36",
        disk_free_mib=102622,
        compilers={"gcc": "12.2.0", "g++": "12.2.0"},
    ),
    "jetson-agx-orin": Hardware(
        architecture="aarch64",
        cpu_model="Cortex-A78AE",
        cpu_flags=frozenset(CORTEX_A78AE.split()),
        cores=12,
        memory_mib=62837,
        distribution="ubuntu 22.04",
        identity="76d5f3a0c0f1e2b4",
        cpu_parts=("0x41 0xd42",),
        board="NVIDIA Jetson AGX Orin Developer Kit",
        kernel="5.15.148-tegra",
        libc="2.35",
        disk_free_mib=402681,
        compilers={"gcc": "11.4.0", "g++": "11.4.0", "nvcc": "12.6.68"},
        nvidia_driver="540.4.0",
        nvidia_cards=(NvidiaCard("", "", "NVIDIA Orin", "8.7", 0),),
    ),
    "dgx-spark": Hardware(
        architecture="aarch64",
        cpu_model="Cortex-X925 and Cortex-A725",
        cpu_flags=frozenset(CORTEX_X925.split()),
        cores=20,
        memory_mib=122548,
        distribution="ubuntu 24.04",
        identity="c0f1e2b476d5f3a0",
        cpu_parts=("0x41 0xd87", "0x41 0xd85"),
        board="NVIDIA NVIDIA_DGX_Spark",
        kernel="6.17.0-1008-nvidia",
        libc="2.39",
        disk_free_mib=3332368,
        compilers={"gcc": "13.3.0", "g++": "13.3.0", "nvcc": "13.0.88"},
        gpus=(PciDevice("000f:01:00.0", "10de", "2e12"),),
        nvidia_driver="580.95.05",
        nvidia_cards=(NvidiaCard("GPU-2dee1e25-b3b5-007e-2b55-79f2d0f2ebe5", "000f:01:00.0", "NVIDIA GB10", "12.1", 0),),
    ),
    "strix-halo": Hardware(
        architecture="x86_64",
        cpu_model="AMD RYZEN AI MAX+ 395 w/ Radeon 8060S",
        cpu_flags=frozenset(RYZEN_AI_MAX_395.split()),
        cores=32,
        memory_mib=128077,
        distribution="debian 13",
        identity="0b1c2d3e4f506172",
        board="Framework Desktop (AMD Ryzen AI Max 300 Series)",
        kernel="6.16.3+deb13-amd64",
        libc="2.41",
        disk_free_mib=795448,
        gpus=(PciDevice("0000:c3:00.0", "1002", "1586", "Strix Halo [Radeon Graphics / Radeon 8050S Graphics / Radeon 8060S Graphics]"),),
        gfx={"0000:c3:00.0": "gfx1151"},
        vulkan=(
            VulkanDevice("AMD Radeon Graphics (RADV GFX1151)", "radv", "integrated", "1.4.305"),
            VulkanDevice("llvmpipe (LLVM 19.1.7, 256 bits)", "llvmpipe", "cpu", "1.4.305"),
        ),
    ),
    "two-kinds-of-nvidia": Hardware(
        architecture="x86_64",
        cpu_model="AMD Ryzen 9 9950X3D 16-Core Processor",
        cpu_flags=frozenset(RYZEN_AI_MAX_395.split()),
        cores=32,
        memory_mib=61841,
        distribution="ubuntu 24.04",
        identity="1827364554637281",
        board="Gigabyte Technology Co., Ltd. B850 AI TOP",
        kernel="7.0.0-28-generic",
        libc="2.39",
        disk_free_mib=113685,
        compilers={"gcc": "13.3.0", "g++": "13.3.0"},
        gpus=(
            PciDevice("0000:01:00.0", "10de", "2b85", "GB202 [GeForce RTX 5090]"),
            PciDevice("0000:03:00.0", "10de", "2203", "GA102 [GeForce RTX 3090 Ti]"),
        ),
        nvidia_driver="595.71.05",
        nvidia_cards=(
            NvidiaCard("GPU-55555555-4444-3333-2222-111111111111", "0000:01:00.0", "NVIDIA GeForce RTX 5090", "12.0", 32607),
            NvidiaCard("GPU-66666666-4444-3333-2222-111111111111", "0000:03:00.0", "NVIDIA GeForce RTX 3090 Ti", "8.6", 24564),
        ),
    ),
    "vm-cortex-a76": Hardware(
        architecture="aarch64",
        cpu_model="Cortex-A76",
        cpu_flags=frozenset(CORTEX_A76.split()),
        cores=2,
        memory_mib=1977,
        distribution="debian 13",
        identity="5b123cc534d87700",
        cpu_parts=("0x41 0xd0b",),
        board="linux,dummy-virt",
        kernel="6.12.107+deb13-cloud-arm64",
        libc="2.41",
        disk_free_mib=14853,
    ),
    "vm-without-avx": Hardware(
        architecture="x86_64",
        cpu_model="Westmere E56xx/L56xx/X56xx (Nehalem-C)",
        cpu_flags=frozenset(WESTMERE_IN_A_VM.split()),
        cores=2,
        memory_mib=1974,
        distribution="debian 13",
        identity="287bca5ae40438e3",
        board="QEMU Standard PC (Q35 + ICH9, 2009)",
        kernel="6.12.107+deb13-cloud-amd64",
        libc="2.41",
        disk_free_mib=14867,
    ),
    "zen-4-rtx-3090": Hardware(
        architecture="x86_64",
        cpu_model="AMD Ryzen 9 7940HS w/ Radeon 780M Graphics",
        cpu_flags=frozenset(RYZEN_9_7940HS.split()),
        cores=16,
        memory_mib=63482,
        distribution="ubuntu 24.04",
        identity="a1b2c3d4e5f60718",
        board="Micro Computer (HK) Tech Limited UM790 Pro",
        kernel="6.17.0-35-generic",
        libc="2.39",
        disk_free_mib=517371,
        compilers={"gcc": "13.3.0", "g++": "13.3.0", "glslc": "2023.8", "nvcc": "12.8.93"},
        cmake="3.28.3",
        docker="28.5.1",
        gpus=(
            PciDevice("0000:01:00.0", "10de", "2204", "GA102 [GeForce RTX 3090]"),
            PciDevice("0000:c4:00.0", "1002", "15bf", "Phoenix1"),
        ),
        nvidia_driver="595.71.05",
        nvidia_cards=(NvidiaCard("GPU-0c1d2e3f-4051-6273-8495-a6b7c8d9eafb", "0000:01:00.0", "NVIDIA GeForce RTX 3090", "8.6", 24576),),
        vulkan=(
            VulkanDevice("NVIDIA GeForce RTX 3090", "nvidia", "discrete", "1.4.325"),
            VulkanDevice("AMD Radeon 780M Graphics (RADV PHOENIX)", "radv", "integrated", "1.4.318"),
        ),
    ),
}
