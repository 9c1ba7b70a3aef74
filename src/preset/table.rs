//! The presets. Every pattern is regular, without capture groups, and matches no path that another pattern of its
//! preset's other class matches; `tests.rs` holds paths as they are on the sites.

use super::{Extent, Form, Lists, PackageIndex, Preset, SetRule};

/// What a preset without it has.
const PLAIN: Preset =
    Preset { name: "", immutable: &[], revalidate: &[], documents: &[], pages: &[], sets: &[], indexes: &[] };

/// Members, none of which is certain to change with the others, side by side.
const fn side_by_side(members: &'static [&'static str]) -> SetRule {
    SetRule { members, anchors: &[], extent: Extent::Directory, lists: None }
}

/// The indexes of an apt repository, pooled or flat.
const APT_INDEXES: &[&str] = &[
    r"/(?:InRelease|Release|Release\.gpg)$",
    r"/(?:Packages|Sources)(?:\.(?:gz|bz2|xz|lzma|lz4|zst))?$",
    r"/Contents-[^/]+$",
    r"/(?:Translation|Commands)-[^/]+$",
    r"/(?:i18n|[^/]+\.diff)/Index$",
    r"/dep11/(?:Components|icons)-[^/]+$",
];

/// The indexes of a feed of OpenWrt, or of the modules of one kernel, in both formats of packages.
const OPENWRT_FEED: &str = r"/(?:Packages(?:\.(?:gz|sig|asc|manifest))?|packages\.adb|index\.json)$";
/// What lies beside the images of a target.
const OPENWRT_TARGET: &str =
    r"/(?:sha256sums(?:\.(?:asc|sig))?|profiles\.json|(?:config|feeds|version)\.buildinfo)$";

/// Every preset, in the order of the documentation.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "pkgsrc",
        immutable: &[r"\.(?:tgz|tbz|txz)$"],
        // Bootstrap kits are replaced under their name now and then.
        revalidate: &[
            r"/pkg_summary\.(?:gz|bz2|xz|zst)$",
            r"/SHA512(?:\.(?:gz|bz2|xz|zst))?$",
            r"/pkg-vulnerabilities(?:\.(?:gz|bz2|xz))?$",
            r"/bootstrap[^/]*\.tar\.(?:gz|bz2|xz)(?:\.asc)?$",
        ],
        sets: &[side_by_side(&[r"/pkg_summary\.(?:gz|bz2|xz|zst)$", r"/SHA512(?:\.(?:gz|bz2|xz|zst))?$"])],
        indexes: &[PackageIndex { paths: &[r"/pkg_summary\.(?:gz|bz2|xz|zst)$"], form: Form::PkgSummary }],
        ..PLAIN
    },
    Preset {
        name: "apt",
        // Names of differences begin with their date.
        immutable: &[
            r"\.(?:deb|udeb|ddeb)$",
            r"/pool/.+\.(?:dsc|diff\.gz|tar\.(?:gz|xz|bz2|lzma|zst)(?:\.asc)?)$",
            r"/by-hash/(?:MD5Sum|SHA1|SHA256|SHA512)/[0-9a-f]+$",
            r"\.diff/(?:T-)?[0-9][^/]*\.(?:gz|xz)$",
        ],
        revalidate: &[
            APT_INDEXES[0],
            APT_INDEXES[1],
            APT_INDEXES[2],
            APT_INDEXES[3],
            APT_INDEXES[4],
            APT_INDEXES[5],
            r"/dists/.+/installer-[^/]+/.*[^/]$",
        ],
        sets: &[SetRule {
            members: APT_INDEXES,
            anchors: &[r"/(?:InRelease|Release|Release\.gpg)$"],
            extent: Extent::Below("dists"),
            lists: Some(Lists::Release),
        }],
        // Fetched by its hash a Packages file has no name of its own.
        indexes: &[
            PackageIndex {
                paths: &[
                    r"/Packages(?:\.(?:gz|bz2|xz|zst))?$",
                    r"/binary-[^/]+/by-hash/(?:MD5Sum|SHA1|SHA256|SHA512)/[0-9a-f]+$",
                ],
                form: Form::AptPackages,
            },
            PackageIndex {
                paths: &[
                    r"/Sources(?:\.(?:gz|bz2|xz|zst))?$",
                    r"/source/by-hash/(?:MD5Sum|SHA1|SHA256|SHA512)/[0-9a-f]+$",
                ],
                form: Form::AptSources,
            },
        ],
        ..PLAIN
    },
    Preset {
        name: "rpm",
        // The names of most indexes begin with their checksum.
        immutable: &[r"\.d?rpm$", r"/repodata/[0-9a-f]{32,128}-[^/]+$"],
        revalidate: &[
            r"/repodata/repomd\.xml(?:\.(?:asc|key|sig))?$",
            r"/repodata/(?:primary|filelists|other|comps|group|updateinfo|modules|prestodelta|productid)[^/]*$",
            r"/\.?treeinfo$",
            r"/RPM-GPG-KEY[^/]*$",
            r"/media\.1/(?:media|products)$",
        ],
        sets: &[SetRule {
            members: &[
                r"/repodata/repomd\.xml(?:\.(?:asc|key|sig))?$",
                r"/repodata/(?:primary|filelists|other|comps|group|updateinfo|modules|prestodelta|productid)[^/]*$",
            ],
            anchors: &[r"/repomd\.xml$"],
            extent: Extent::Directory,
            lists: Some(Lists::Repomd),
        }],
        indexes: &[PackageIndex {
            paths: &[r"/repodata/(?:[0-9a-f]{32,128}-)?primary\.xml(?:\.(?:gz|bz2|xz|zst))?$"],
            form: Form::Rpm,
        }],
        ..PLAIN
    },
    Preset {
        name: "arch",
        immutable: &[r"\.pkg\.tar(?:\.(?:zst|xz|gz|bz2))?(?:\.sig)?$"],
        revalidate: &[
            r"/[^/]+\.(?:db|files|links)(?:\.tar(?:\.(?:zst|xz|gz|bz2))?)?(?:\.sig)?$",
            r"/last(?:update|sync)$",
        ],
        sets: &[side_by_side(&[r"/[^/]+\.(?:db|files|links)(?:\.tar(?:\.(?:zst|xz|gz|bz2))?)?(?:\.sig)?$"])],
        indexes: &[PackageIndex {
            paths: &[r"/[^/]+\.(?:db|files)(?:\.tar(?:\.(?:zst|xz|gz|bz2))?)?$"],
            form: Form::Arch,
        }],
        ..PLAIN
    },
    Preset {
        name: "alpine",
        immutable: &[
            r"\.apk$",
            r"/releases/[^/]+/alpine-[^/]+-[0-9]+\.[0-9]+\.[0-9]+(?:_rc[0-9]+)?-[^/]+\.(?:iso|tar\.gz|img\.gz)(?:\.(?:sha256|sha512|asc))?$",
        ],
        // One file is its own set.
        revalidate: &[r"/APKINDEX\.tar\.gz$", r"/latest-releases\.yaml$"],
        indexes: &[PackageIndex { paths: &[r"/APKINDEX\.tar\.gz$"], form: Form::Alpine }],
        ..PLAIN
    },
    Preset {
        name: "openwrt",
        // Of releases; a file of a snapshot is rebuilt under its name.
        immutable: &[
            r"/(?:packages-)?[0-9]{2}\.[0-9]{2}(?:\.[0-9]+)?(?:-rc[0-9]+)?/(?:.+/)?[^/]+\.(?:ipk|apk)$",
            r"/[0-9]{2}\.[0-9]{2}(?:\.[0-9]+)?(?:-rc[0-9]+)?/targets/[^/]+/[^/]+/openwrt-[^/]+$",
        ],
        revalidate: &[
            OPENWRT_FEED,
            OPENWRT_TARGET,
            r"/(?:snapshots|[0-9]{2}\.[0-9]{2}-SNAPSHOT)/.+\.(?:ipk|apk)$",
            r"/(?:snapshots|[0-9]{2}\.[0-9]{2}-SNAPSHOT)/targets/[^/]+/[^/]+/openwrt-[^/]+$",
            // Where the URL has the version in it.
            r"^/(?:packages|targets)/.+\.(?:ipk|apk)$",
            r"/\.(?:versions|overview)\.json$",
        ],
        sets: &[side_by_side(&[OPENWRT_FEED]), side_by_side(&[OPENWRT_TARGET])],
        indexes: &[PackageIndex { paths: &[r"/Packages(?:\.gz)?$"], form: Form::AptPackages }],
        ..PLAIN
    },
    Preset {
        name: "freebsd",
        // Only names with a hash: others are rebuilt with the same version.
        immutable: &[r"/All/Hashed/[^/]+~[0-9a-zA-Z]+\.(?:pkg|txz)$"],
        revalidate: &[
            r"/All/[^/]+\.(?:pkg|txz|tzst|tbz|tgz)$",
            r"/(?:meta|packagesite|data|filesite|digests)\.(?:conf|pkg|txz|tzst|tbz|tgz)$",
            r"/Latest/[^/]+\.(?:pkg|txz|tbz)(?:\.(?:sig|pubkeysig))?$",
        ],
        sets: &[
            side_by_side(&[r"/(?:meta|packagesite|data|filesite|digests)\.(?:conf|pkg|txz|tzst|tbz|tgz)$"]),
            side_by_side(&[r"/Latest/[^/]+\.(?:pkg|txz|tbz)(?:\.(?:sig|pubkeysig))?$"]),
        ],
        indexes: &[PackageIndex {
            paths: &[r"/(?:packagesite|data)\.(?:pkg|txz|tzst|tbz|tgz)$"],
            form: Form::FreeBsd,
        }],
        ..PLAIN
    },
    Preset {
        name: "openbsd",
        // Of releases, not of snapshots.
        immutable: &[
            r"/[0-9]+\.[0-9]+/(?:packages|packages-stable)/[^/]+/[^/]+\.tgz$",
            r"/[0-9]+\.[0-9]+/[^/]+/[^/]+\.(?:tgz|iso|img|fs)$",
            r"/syspatch/[0-9]+\.[0-9]+/[^/]+/[^/]+\.tgz$",
        ],
        revalidate: &[
            r"/snapshots/.+\.(?:tgz|iso|img|fs)$",
            r"/(?:SHA256(?:\.sig)?|index\.txt|BUILDINFO)$",
            r"/packages(?:-stable)?/[^/]+/$",
        ],
        sets: &[side_by_side(&[r"/(?:SHA256(?:\.sig)?|index\.txt|BUILDINFO)$"])],
        ..PLAIN
    },
    Preset {
        name: "void",
        immutable: &[r"_[0-9]+\.[^/]+\.xbps(?:\.sig2?)?$"],
        revalidate: &[r"/[^/]+-(?:repodata|stagedata)$"],
        ..PLAIN
    },
    Preset {
        name: "nix",
        // Those of Guix have the name of what is in them.
        immutable: &[
            r"/nar/[^/]+\.nar(?:\.(?:xz|zst|bz2|br|lzip|lz4))?$",
            r"/nar/(?:(?:gzip|lzip|zstd|none)/)?[0-9a-z]{32}-[^/]+$",
            r"/file/[^/]+/sha256/[0-9a-z]{52}$",
        ],
        // A narinfo names a nar, which may be repacked under another name.
        revalidate: &[r"/nix-cache-info$", r"/[0-9a-z]{32}\.narinfo$"],
        ..PLAIN
    },
    Preset {
        name: "pip",
        immutable: &[
            r"\.(?:whl|egg)(?:\.(?:metadata|asc|provenance))?$",
            r"/packages/.+\.(?:tar\.(?:gz|bz2|xz)|tgz|zip)(?:\.(?:metadata|asc|provenance))?$",
        ],
        revalidate: &[r"/simple/(?:[^/]+/?)?$", r"/pypi/[^/]+(?:/[^/]+)?/json$"],
        pages: &[r"/simple/(?:[^/]+/?)?$"],
        ..PLAIN
    },
    Preset {
        name: "npm",
        immutable: &[r"/-/[^/]+\.tgz$"],
        // A package's document, of one version or of all; scopes are `@scope/name`.
        revalidate: &[
            r"^/(?:@[^/]+/)?[0-9A-Za-z~][^/@]*(?:/(?:[0-9]+\.[^/]+|latest|next))?$",
            r"/-/package/(?:@[^/]+/)?[^/]+/dist-tags$",
            r"/-/npm/v1/(?:keys|attestations/.+)$",
        ],
        // `/lodash` beside `/lodash/-/lodash-4.17.21.tgz`.
        documents: &[r"^/(?:@[^/]+/)?[0-9A-Za-z~][^/@]*(?:/[0-9A-Za-z~][^/]*)?$"],
        ..PLAIN
    },
    Preset {
        name: "cargo",
        immutable: &[r"\.crate$", r"/crates/[^/]+/[0-9][^/]*/download$"],
        // The sparse index; directories by the length and the first letters of the name.
        revalidate: &[
            r"/config\.json$",
            r"/(?:1/[0-9a-z_-]|2/[0-9a-z_-]{2}|3/[0-9a-z_-]/[0-9a-z_-]{3})$",
            r"/[0-9a-z_-]{2}/[0-9a-z_-]{2}/[0-9a-z_-]{4,}$",
        ],
        ..PLAIN
    },
    Preset {
        name: "go",
        // Full versions only: `@v/master.info` moves with the branch.
        immutable: &[
            r"/@v/v[0-9]+\.[0-9]+\.[0-9]+[^/]*\.(?:zip|mod|info)$",
            r"/sumdb/[^/]+/(?:tile|lookup)/.+[^/]$",
        ],
        revalidate: &[
            r"/@v/(?:list|(?:[^v/]|v[^0-9/])[^/]*\.(?:mod|info)|v[0-9]+(?:\.[0-9]+)?\.(?:mod|info))$",
            r"/@latest$",
            r"/sumdb/[^/]+/(?:supported|latest)$",
        ],
        ..PLAIN
    },
    Preset {
        name: "maven",
        // The directory above the file is the version; none that ends in "-SNAPSHOT", in any case. A release that
        // shares the last letter with that is revalidated, which is slower and not wrong. Types that others have
        // too must look like an artifact: a version with a digit, and a hyphen with a digit behind it.
        immutable: &[
            r"/[^/]*[^/Tt]/[^/]+\.(?:jar|pom|module|war|ear|aar|klib|rar|nbm|hpi|jpi|kar)(?:\.(?:asc|md5|sha1|sha256|sha512|sigstore|sigstore\.json))*$",
            r"/(?:[^/]*[0-9]|[^/]*[0-9][^/]*[^/Tt])/[^/]+-[^/]*[0-9][^/]*\.(?:zip|tar(?:\.(?:gz|bz2|xz|zst))?|tgz|tbz2|exe|so|dll|dylib|jnilib|xml|xsd|json|swc|toml|nar|ya?ml|properties|cfg|txt|rpm|deb|apk|par|sar|esa|wasm|proto|pdf|html)(?:\.(?:asc|md5|sha1|sha256|sha512|sigstore|sigstore\.json))*$",
        ],
        revalidate: &[
            r"/maven-metadata\.xml(?:\.(?:asc|md5|sha1|sha256|sha512))*$",
            r"/[^/]*[Tt]/[^/]+\.(?:jar|pom|module|war|ear|aar|klib|rar|nbm|hpi|jpi|kar)(?:\.(?:asc|md5|sha1|sha256|sha512|sigstore|sigstore\.json))*$",
            r"/[^/]*[0-9][^/]*[Tt]/[^/]+-[^/]*[0-9][^/]*\.(?:zip|tar(?:\.(?:gz|bz2|xz|zst))?|tgz|tbz2|exe|so|dll|dylib|jnilib|xml|xsd|json|swc|toml|nar|ya?ml|properties|cfg|txt|rpm|deb|apk|par|sar|esa|wasm|proto|pdf|html)(?:\.(?:asc|md5|sha1|sha256|sha512|sigstore|sigstore\.json))*$",
            r"/archetype-catalog\.xml(?:\.(?:md5|sha1|sha256|sha512))?$",
        ],
        // A document and its checksums.
        sets: &[side_by_side(&[r"/maven-metadata\.xml(?:\.(?:asc|md5|sha1|sha256|sha512))*$"])],
        ..PLAIN
    },
    Preset {
        name: "rubygems",
        immutable: &[r"\.gem$", r"/quick/Marshal\.4\.8/[^/]+\.gemspec\.rz$"],
        revalidate: &[
            r"/(?:versions|names)$",
            r"/info/[^/]+$",
            r"/(?:latest_|prerelease_)?specs\.4\.8(?:\.gz)?$",
        ],
        sets: &[side_by_side(&[r"/(?:latest_|prerelease_)?specs\.4\.8(?:\.gz)?$"])],
        ..PLAIN
    },
    Preset {
        name: "conda",
        immutable: &[
            r"/(?:noarch|(?:linux|osx|win|freebsd|emscripten|wasi|zos)-[^/]+)/[^/]+(?:\.conda|\.tar\.bz2)$",
            r"/[0-9a-f]{64}\.msgpack\.zst$",
        ],
        revalidate: &[
            r"/(?:current_)?repodata(?:_from_packages)?\.json(?:\.(?:bz2|zst|xz))?$",
            // Grows at its end: clients request the rest of it.
            r"/(?:current_)?repodata(?:_from_packages)?\.jlap$",
            r"/repodata_shards\.msgpack\.zst$",
            r"/(?:run_exports|channeldata|patch_instructions)\.json(?:\.(?:bz2|zst|xz))?$",
        ],
        sets: &[side_by_side(&[r"/repodata(?:_from_packages)?\.json(?:\.(?:bz2|zst|xz))?$"])],
        indexes: &[PackageIndex {
            paths: &[r"/(?:current_)?repodata(?:_from_packages)?\.json(?:\.(?:bz2|zst|xz))?$"],
            form: Form::Conda,
        }],
        ..PLAIN
    },
    Preset {
        name: "hackage",
        immutable: &[r"/package/[^/]+-[0-9.]+/[^/]+-[0-9.]+\.tar\.gz$"],
        revalidate: &[
            r"/0[01]-index\.tar(?:\.gz)?$",
            r"/(?:timestamp|snapshot|root|mirrors)\.json$",
            r"/package/[^/]+/[^/]+\.cabal$",
            r"/package/[^/]+/preferred$",
        ],
        pages: &[r"/package/[^/]+/preferred$"],
        sets: &[SetRule {
            members: &[r"/0[01]-index\.tar(?:\.gz)?$", r"/(?:timestamp|snapshot|root|mirrors)\.json$"],
            anchors: &[r"/timestamp\.json$"],
            extent: Extent::Directory,
            lists: None,
        }],
        ..PLAIN
    },
    Preset {
        name: "cran",
        immutable: &[
            r"/src/contrib/(?:Archive/[^/]+/)?[^/]+_[0-9][^/]*\.tar\.gz$",
            r"/bin/.+/contrib/[^/]+/[^/]+_[0-9][^/]*\.(?:zip|tgz)$",
        ],
        revalidate: &[r"/PACKAGES(?:\.gz|\.rds)?$", r"/Meta/archive\.rds$"],
        sets: &[side_by_side(&[r"/PACKAGES(?:\.gz|\.rds)?$"])],
        ..PLAIN
    },
    Preset {
        name: "cpan",
        immutable: &[r"/authors/id/.+\.(?:tar\.(?:gz|bz2|xz)|tgz|zip|readme|meta)$"],
        revalidate: &[
            r"/modules/(?:02packages\.details\.txt|03modlist\.data|06perms\.txt)(?:\.gz)?$",
            r"/authors/(?:00whois\.(?:xml|html)|01mailrc\.txt(?:\.gz)?|02authors\.txt\.gz)$",
            r"/authors/id/.+/CHECKSUMS$",
        ],
        ..PLAIN
    },
];
