"""Rows, written as an application does; the keys are those that the database gives."""

from uuid import UUID

from django.contrib.auth.models import Group, Permission, User
from django.contrib.sites.models import Site
from django.db import IntegrityError, transaction
from django.db.models import F
from shop.models import Customer, Product, Purchase, Tag


def write() -> None:
    tags = [Tag.objects.get_or_create(name=name)[0] for name in ("new", "old", "blue")]
    customers = Customer.objects.bulk_create(
        [Customer(email=f"c{n}@example.com", full_name=f"Name {n}", score=n) for n in range(20)],
        update_conflicts=True,
        unique_fields=["email"],
        update_fields=["score"],
    )
    with transaction.atomic():
        for n in range(5):
            product, _ = Product.objects.update_or_create(sku=UUID(int=n + 1), defaults={"title": f"Product {n}"})
            product.tags.set(tags[: n % 3 + 1])
            Purchase.objects.create(customer=customers[n], product=product, number=n)
        try:
            with transaction.atomic():
                Purchase.objects.create(customer=customers[0], product_id=UUID(int=1), number=9)
        except IntegrityError:
            print("one open purchase")
    Customer.objects.filter(purchases__number__gt=2).update(score=F("score") * 2)
    Customer.objects.exclude(purchases__isnull=False).filter(score__gt=15).delete()
    user = User.objects.create_user("ann", "ann@example.com", "no secret")
    group, _ = Group.objects.get_or_create(name="staff")
    group.permissions.set(Permission.objects.filter(codename__startswith="add_"))
    user.groups.add(group)
    Site.objects.update(domain="shop.example.com")
    print(sorted(Purchase.objects.values_list("customer__email", "product__title", "number")))
    print(Customer.objects.count(), Tag.objects.filter(product__title="Product 1").count(), group.permissions.count())
